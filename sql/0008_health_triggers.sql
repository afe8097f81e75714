-- The triggers that keep the counts of health. They run with the rights of the tables' owner and
-- with settings of their own, whoever writes. What they cannot count they note in
-- alerts_health_stale, and the write succeeds.

-- See 0001: the functions of this file keep it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- Changes that were not counted. A row means that the counts are wrong until they are rebuilt.
CREATE TABLE IF NOT EXISTS alerts_health_stale (
    since TIMESTAMPTZ NOT NULL,
    error_code TEXT NOT NULL  -- PostgreSQL's (SQLSTATE)
);

-- Once is enough, but a transaction of a fixed snapshot does not look first: it may see a note that
-- a rebuild has removed since, and if serializable make another one fail by looking.
CREATE OR REPLACE FUNCTION alerts_health_mark_stale(code TEXT) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') = 'read committed' THEN
        IF EXISTS (SELECT FROM alerts_health_stale) THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO alerts_health_stale (since, error_code)
    VALUES (pg_catalog.clock_timestamp(), code);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'health could not count a change (%) nor note that (%)', code, SQLSTATE
        USING HINT = 'Run: python -m alerts rebuild';
END
$$;

-- The triggers. Each operation gives its own tables of rows, so there is a statement for each. The
-- times of old deployments are plain timestamps in UTC, whatever the session's zone. A table that
-- someone has locked is waited for as long as lock_timeout says.
--
-- Everybody may make functions and operators in the schema of a PostgreSQL 14: those used with the
-- owner's rights are pg_catalog's by name, or by having exactly the types that they are given.
CREATE OR REPLACE FUNCTION alerts_health_count_deliveries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    changes bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO alerts_health_changes
        SELECT 'deliveries', cell.*, pg_catalog.sum(d.amount)::bigint
        FROM (
            SELECT
                created_at, risk_at, sent_at, channel, delivery_kind, status, failure_code,
                attempts, pg_catalog.count(*) AS amount
            FROM added
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ) AS d
        CROSS JOIN LATERAL alerts_health_cell(
            d.created_at::timestamptz, d.created_at::timestamptz, d.risk_at::timestamptz,
            d.sent_at::timestamptz, d.channel::text, d.delivery_kind::text, d.status::text,
            d.failure_code::text, d.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO alerts_health_changes
        SELECT 'deliveries', cell.*, -pg_catalog.count(*)
        FROM removed AS d
        CROSS JOIN LATERAL alerts_health_cell(
            d.created_at::timestamptz, d.created_at::timestamptz, d.risk_at::timestamptz,
            d.sent_at::timestamptz, d.channel::text, d.delivery_kind::text, d.status::text, d.failure_code::text,
            d.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
    ELSE
        INSERT INTO alerts_health_changes
        SELECT 'deliveries', cell.*, pg_catalog.sum(d.amount)::bigint
        FROM (  -- what is alike is added up before it is worked out where it counts
            SELECT
                created_at, risk_at, sent_at, channel, delivery_kind, status, failure_code,
                attempts, pg_catalog.sum(sign) AS amount
            FROM (
                SELECT
                    1 AS sign, a.created_at, a.risk_at, a.sent_at, a.channel, a.delivery_kind,
                    a.status, a.failure_code, a.attempts
                FROM added AS a
                UNION ALL
                SELECT
                    -1, r.created_at, r.risk_at, r.sent_at, r.channel, r.delivery_kind,
                    r.status, r.failure_code, r.attempts
                FROM removed AS r
            ) AS each
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ) AS d
        CROSS JOIN LATERAL alerts_health_cell(
            d.created_at::timestamptz, d.created_at::timestamptz, d.risk_at::timestamptz,
            d.sent_at::timestamptz, d.channel::text, d.delivery_kind::text, d.status::text,
            d.failure_code::text, d.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        HAVING pg_catalog.sum(d.amount)::bigint <> 0::bigint;
    END IF;
    GET DIAGNOSTICS changes = ROW_COUNT;
    PERFORM alerts_health_fold_at_times(changes);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM alerts_health_mark_stale(SQLSTATE);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION alerts_health_count_digests() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    changes bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO alerts_health_changes
        SELECT 'digests', cell.*, pg_catalog.count(*)
        FROM added AS g
        CROSS JOIN LATERAL alerts_health_cell(
            g.created_at::timestamptz,
            greatest(g.created_at::timestamptz, g.window_end::timestamptz),
            NULL::timestamptz, g.sent_at::timestamptz, g.channel::text, 'digest'::text, g.status::text,
            g.failure_code::text, g.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO alerts_health_changes
        SELECT 'digests', cell.*, -pg_catalog.count(*)
        FROM removed AS g
        CROSS JOIN LATERAL alerts_health_cell(
            g.created_at::timestamptz,
            greatest(g.created_at::timestamptz, g.window_end::timestamptz),
            NULL::timestamptz, g.sent_at::timestamptz, g.channel::text, 'digest'::text, g.status::text,
            g.failure_code::text, g.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
    ELSE
        INSERT INTO alerts_health_changes
        SELECT 'digests', cell.*, pg_catalog.sum(g.sign)
        FROM (
            SELECT 1 AS sign, a.* FROM added AS a UNION ALL SELECT -1, r.* FROM removed AS r
        ) AS g
        CROSS JOIN LATERAL alerts_health_cell(
            g.created_at::timestamptz,
            greatest(g.created_at::timestamptz, g.window_end::timestamptz),
            NULL::timestamptz, g.sent_at::timestamptz, g.channel::text, 'digest'::text, g.status::text,
            g.failure_code::text, g.attempts::integer
        ) AS cell
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        HAVING pg_catalog.sum(g.sign) <> 0::bigint;
    END IF;
    GET DIAGNOSTICS changes = ROW_COUNT;
    PERFORM alerts_health_fold_at_times(changes);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM alerts_health_mark_stale(SQLSTATE);
    RETURN NULL;
END
$$;

-- TRUNCATE tells no rows. Its arguments name the sources in the counts; the first is the table's.
CREATE OR REPLACE FUNCTION alerts_health_forget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
BEGIN
    DELETE FROM alerts_health_changes WHERE source = TG_ARGV[0];
    DELETE FROM alerts_health_counts
    WHERE source = TG_ARGV[0] OR source = TG_ARGV[1] OR source = TG_ARGV[2];
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM alerts_health_mark_stale(SQLSTATE);
    RETURN NULL;
END
$$;

-- Only these triggers may use the owner's rights.
REVOKE ALL ON FUNCTION
    alerts_health_count_deliveries(), alerts_health_count_digests(), alerts_health_forget()
FROM PUBLIC;

CREATE OR REPLACE TRIGGER alerts_health_insert AFTER INSERT ON user_alert_deliveries
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_deliveries();
CREATE OR REPLACE TRIGGER alerts_health_update AFTER UPDATE ON user_alert_deliveries
REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_deliveries();
CREATE OR REPLACE TRIGGER alerts_health_delete AFTER DELETE ON user_alert_deliveries
REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_deliveries();
CREATE OR REPLACE TRIGGER alerts_health_truncate AFTER TRUNCATE ON user_alert_deliveries
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_forget('deliveries', 'delivery_waits', 'risk_waits');

CREATE OR REPLACE TRIGGER alerts_health_insert AFTER INSERT ON user_alert_digests
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_digests();
CREATE OR REPLACE TRIGGER alerts_health_update AFTER UPDATE ON user_alert_digests
REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_digests();
CREATE OR REPLACE TRIGGER alerts_health_delete AFTER DELETE ON user_alert_digests
REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_count_digests();
CREATE OR REPLACE TRIGGER alerts_health_truncate AFTER TRUNCATE ON user_alert_digests
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_forget('digests', 'digest_waits');
