-- Making the counts of health true again: after a restore, with triggers switched off, or when
-- they could not count.

-- See 0001: the functions of this file keep it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- What the counts lack, or with a minus have too much, against a recount of every row. An error
-- for whoever does not see all rows (row_security).
CREATE OR REPLACE FUNCTION alerts_health_differences() RETURNS SETOF alerts_health_counts
LANGUAGE sql STABLE
SET search_path FROM CURRENT SET timezone = 'UTC' SET row_security = off AS $$
WITH rows_missing AS (
    SELECT 'deliveries' AS source, cell.*, count(*) AS amount
    FROM user_alert_deliveries AS d
    CROSS JOIN LATERAL alerts_health_cell(
        d.created_at::timestamptz, d.created_at::timestamptz, d.risk_at::timestamptz,
        d.sent_at::timestamptz, d.channel::text, d.delivery_kind::text, d.status::text, d.failure_code::text,
        d.attempts::integer
    ) AS cell
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    UNION ALL
    SELECT 'digests', cell.*, count(*)
    FROM user_alert_digests AS g
    CROSS JOIN LATERAL alerts_health_cell(
        g.created_at::timestamptz, greatest(g.created_at::timestamptz, g.window_end::timestamptz),
        NULL::timestamptz, g.sent_at::timestamptz, g.channel::text, 'digest'::text, g.status::text,
        g.failure_code::text, g.attempts::integer
    ) AS cell
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    UNION ALL
    SELECT
        source, minute, channel, kind, status, failure_code, retried, wait_seconds, risk_seconds,
        -amount
    FROM alerts_health_changes
),
counts_missing AS (
    SELECT
        s.source, l.level, l.bucket, m.channel, m.kind, s.status, s.failure_code, s.retried,
        s.wait_seconds, m.amount
    FROM rows_missing AS m
    CROSS JOIN LATERAL alerts_health_levels(m.minute) AS l
    CROSS JOIN LATERAL alerts_health_sources(
        m.source, m.status, m.failure_code, m.retried, m.wait_seconds, m.risk_seconds
    ) AS s
    UNION ALL
    SELECT
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, -amount
    FROM alerts_health_counts
)
SELECT
    source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds,
    sum(amount)::bigint
FROM counts_missing
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
HAVING sum(amount) <> 0
$$;

-- Makes the counts true to the rows, whatever has happened to either; how many were wrong. Writers
-- wait until the transaction ends.
CREATE OR REPLACE FUNCTION alerts_health_rebuild() RETURNS BIGINT
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    mended bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the counts are rebuilt in a READ COMMITTED transaction only'
            USING ERRCODE = 'invalid_transaction_state',
            HINT = 'A fixed snapshot does not show what was written while waiting for the tables.';
    END IF;
    LOCK TABLE user_alert_deliveries, user_alert_digests IN SHARE ROW EXCLUSIVE MODE;
    PERFORM pg_advisory_xact_lock(hashtextextended('alerts_health_fold', 0));
    PERFORM alerts_health_fold();
    INSERT INTO alerts_health_counts AS c (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    FROM alerts_health_differences()
    ON CONFLICT (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds
    ) DO UPDATE SET amount = c.amount + excluded.amount;
    GET DIAGNOSTICS mended = ROW_COUNT;
    DELETE FROM alerts_health_stale;
    RETURN mended;
END
$$;

-- Counts the rows that are there already.
SELECT alerts_health_rebuild();
