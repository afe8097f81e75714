-- Health reads half as many counts. The triggers append what a statement changed by minute alone
-- (the level of alerts_health_changes is always that); of the minutes the fold makes the counts of
-- hours and of blocks of six hours as well. So a further level costs writers nothing.

ALTER TABLE alerts_health_changes ALTER COLUMN level SET DEFAULT 'minute';

-- The buckets that a minute is counted in, all in UTC.
CREATE OR REPLACE FUNCTION alerts_health_levels(minute TIMESTAMPTZ)
RETURNS TABLE (level TEXT, bucket TIMESTAMPTZ) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
VALUES
    ('minute', minute),
    ('hour', date_bin('1 hour', minute, '2000-01-01 00:00+00')),
    ('six_hours', date_bin('6 hours', minute, '2000-01-01 00:00+00'))
$$;

-- Writers wait for this, as long as it takes to add up the kept hours: what is not folded yet has
-- both of the old levels and is folded as such; then the blocks are made of the hours.
LOCK TABLE user_alert_deliveries, user_alert_digests IN SHARE ROW EXCLUSIVE MODE;
SELECT pg_advisory_xact_lock(hashtextextended('alerts_health_fold', 0));
SELECT alerts_health_fold();
DELETE FROM alerts_health_counts WHERE level = 'six_hours';
INSERT INTO alerts_health_counts (
    source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
)
SELECT
    source, 'six_hours', date_bin('6 hours', bucket, '2000-01-01 00:00+00'),
    channel, kind, status, failure_code, retried, wait_seconds, sum(amount)
FROM alerts_health_counts
WHERE level = 'hour'
GROUP BY 1, 3, 4, 5, 6, 7, 8, 9
HAVING sum(amount) <> 0;

-- Moves the changes into the counts. One at a time: whoever finds another at it (or one whose
-- transaction is still open) leaves them. Not in a transaction of a fixed snapshot, which may not
-- delete what others have deleted since.
CREATE OR REPLACE FUNCTION alerts_health_fold() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed'
        OR NOT pg_try_advisory_xact_lock(hashtextextended('alerts_health_fold', 0))
    THEN
        RETURN;
    END IF;
    WITH taken AS (
        DELETE FROM alerts_health_changes RETURNING *
    )
    INSERT INTO alerts_health_counts AS c (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT
        t.source, l.level, l.bucket, t.channel, t.kind, t.status, t.failure_code, t.retried,
        t.wait_seconds, sum(t.amount)
    FROM taken AS t
    CROSS JOIN LATERAL alerts_health_levels(t.bucket) AS l
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    HAVING sum(t.amount) <> 0
    ON CONFLICT (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds
    ) DO UPDATE SET amount = c.amount + excluded.amount;
END
$$;

-- The functions of the triggers, three a table, since only its own operation gives a trigger its
-- rows. The times of old deployments are plain timestamps in UTC, whatever the session's zone.
DO $do$
DECLARE
    target record;
    event record;
BEGIN
    FOR target IN
        SELECT * FROM (VALUES
            ('deliveries', 'delivery', 'delivery_kind', 'created_at'),
            ('digests', 'digest', $q$'digest'$q$, 'greatest(created_at, window_end)')
        ) AS t (source, item, kind, queued_at)
    LOOP
        FOR event IN
            SELECT * FROM (VALUES
                ('INSERT', 'SELECT 1 AS sign, a.* FROM added AS a'),
                ('DELETE', 'SELECT -1 AS sign, r.* FROM removed AS r'),
                (
                    'UPDATE',
                    'SELECT 1 AS sign, a.* FROM added AS a UNION ALL SELECT -1, r.* FROM removed AS r'
                )
            ) AS e (operation, rows)
        LOOP
            EXECUTE format($f$
CREATE OR REPLACE FUNCTION alerts_health_%1$s_%2$s() RETURNS trigger
LANGUAGE plpgsql SET timezone = 'UTC' AS $body$
DECLARE
    changes bigint;
BEGIN
    WITH changed AS MATERIALIZED (
        SELECT
            date_bin('1 minute', created_at, '2000-01-01')::timestamptz AS minute,
            coalesce(channel, '') AS channel,
            coalesce(%3$s, '') AS kind,
            coalesce(status, '') AS status,
            coalesce(failure_code, '') AS failure_code,
            alerts_health_retried(status, attempts::integer) AS retried,
            CASE WHEN status = 'sent' AND sent_at IS NOT NULL
                THEN alerts_health_wait_seconds(sent_at - %4$s)
            END AS wait_seconds,
            sum(sign) AS amount
        FROM (%5$s) AS r
        WHERE created_at IS NOT NULL
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        HAVING sum(sign) <> 0
    )
    INSERT INTO alerts_health_changes (
        source, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT '%6$s', minute, channel, kind, status, failure_code, retried, -1, sum(amount)
    FROM changed
    GROUP BY minute, channel, kind, status, failure_code, retried
    HAVING sum(amount) <> 0
    UNION ALL
    SELECT '%7$s', minute, channel, kind, '', '', FALSE, wait_seconds, sum(amount)
    FROM changed
    WHERE wait_seconds IS NOT NULL
    GROUP BY minute, channel, kind, wait_seconds
    HAVING sum(amount) <> 0;
    GET DIAGNOSTICS changes = ROW_COUNT;
    -- About every 1000 changes, and never long after many at once.
    IF random() * 1000 < changes THEN
        PERFORM alerts_health_fold();
    END IF;
    RETURN NULL;
END
$body$
$f$,
                target.source, lower(event.operation), target.kind, target.queued_at, event.rows,
                target.source, target.item || '_waits'
            );
        END LOOP;
    END LOOP;
END
$do$;

-- The rows that are there already are counted as if they were inserted now. Also the way to
-- repair the figures after triggers were switched off: SELECT alerts_health_recount().
CREATE OR REPLACE FUNCTION alerts_health_recount() RETURNS void
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
    LOCK TABLE user_alert_deliveries, user_alert_digests IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM alerts_health_changes;
    DELETE FROM alerts_health_counts;
    WITH existing AS (
        SELECT
            'deliver' AS item, created_at::timestamptz AS created_at, channel,
            delivery_kind AS kind, status, failure_code, attempts, sent_at - created_at AS waited
        FROM user_alert_deliveries
        UNION ALL
        SELECT
            'digest', created_at::timestamptz, channel, 'digest', status, failure_code, attempts,
            sent_at - greatest(created_at, window_end)
        FROM user_alert_digests
    )
    INSERT INTO alerts_health_changes (
        source, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT
        CASE item WHEN 'digest' THEN 'digests' ELSE 'deliveries' END,
        date_bin('1 minute', created_at, '2000-01-01'), coalesce(channel, ''),
        coalesce(kind, ''), coalesce(status, ''), coalesce(failure_code, ''),
        alerts_health_retried(status, attempts::integer), -1, count(*)
    FROM existing
    WHERE created_at IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    UNION ALL
    SELECT
        CASE item WHEN 'digest' THEN 'digest_waits' ELSE 'delivery_waits' END,
        date_bin('1 minute', created_at, '2000-01-01'), coalesce(channel, ''),
        coalesce(kind, ''), '', '', FALSE, alerts_health_wait_seconds(waited), count(*)
    FROM existing
    WHERE created_at IS NOT NULL AND status = 'sent' AND waited IS NOT NULL
    GROUP BY 1, 2, 3, 4, 8;
    PERFORM alerts_health_fold();
END
$$;
