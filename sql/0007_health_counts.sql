-- The figures of delivery health, kept by the database itself, so that rows written by hand count
-- too: how many deliveries and digests were created in each minute and each hour, by what became
-- of them. Health sums whole hours, and minutes and single rows at the edges of a window.
--
-- Statement-level triggers append what a statement changed to alerts_health_changes. It has no
-- key, so writers never wait for each other there, however long their transactions are. Now and
-- then one of them folds the changes into alerts_health_counts. A count is the sum over both.

CREATE TABLE IF NOT EXISTS alerts_health_counts (
    source TEXT NOT NULL,  -- deliveries, digests; delivery_waits, digest_waits: of those sent
    level TEXT NOT NULL,  -- minute, hour
    bucket TIMESTAMPTZ NOT NULL,  -- of created_at
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    failure_code TEXT NOT NULL,  -- '' for none
    retried BOOLEAN NOT NULL,
    wait_seconds INTEGER NOT NULL,  -- -1 but for the waits
    amount BIGINT NOT NULL,
    PRIMARY KEY (source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds)
    INCLUDE (amount)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
-- Old figures change no more: vacuumed often, they are read from the key's index alone.

CREATE TABLE IF NOT EXISTS alerts_health_changes (LIKE alerts_health_counts);
CREATE INDEX IF NOT EXISTS idx_alerts_health_changes ON alerts_health_changes (source, level, bucket);

-- How long a message took from queued to sent, in whole seconds, rounded up to the next of four
-- steps an octave (8, 10, 12, 14, 16, 20 ...): at most a quarter too long. Half a second less
-- keeps the logarithm away from whole numbers, where it could fall on either side. In two
-- functions of one expression each, which the planner takes into the statement.
CREATE OR REPLACE FUNCTION alerts_health_round_up(seconds DOUBLE PRECISION) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT (
    ceil(seconds / 2 ^ greatest(0, ceil(ln(seconds - 0.5) / ln(2::double precision)) - 3))
    * 2 ^ greatest(0, ceil(ln(seconds - 0.5) / ln(2::double precision)) - 3)
)::integer
$$;
CREATE OR REPLACE FUNCTION alerts_health_wait_seconds(waited INTERVAL) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT alerts_health_round_up(
    least(greatest(ceil(date_part('epoch', waited)), 1), 1048576)
)
$$;

-- Whether a row had to be tried more than once, or waits to be.
CREATE OR REPLACE FUNCTION alerts_health_retried(status TEXT, attempts INTEGER) RETURNS BOOLEAN
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT coalesce(attempts > 1 OR (status = 'queued' AND attempts >= 1), FALSE)
$$;

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
    INSERT INTO alerts_health_counts AS c
    SELECT
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds,
        sum(amount)
    FROM taken
    GROUP BY source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds
    HAVING sum(amount) <> 0
    ON CONFLICT (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds
    ) DO UPDATE SET amount = c.amount + excluded.amount;
END
$$;

-- Three functions a table, since only its own operation gives a trigger its rows. The times of
-- old deployments are plain timestamps in UTC, whatever the session's zone.
DO $do$
DECLARE
    target record;
    event record;
BEGIN
    FOR target IN
        SELECT * FROM (VALUES
            ('user_alert_deliveries', 'deliveries', 'delivery', 'delivery_kind', 'created_at'),
            (
                'user_alert_digests', 'digests', 'digest', $q$'digest'$q$,
                'greatest(created_at, window_end)'
            )
        ) AS t (tablename, source, item, kind, queued_at)
    LOOP
        FOR event IN
            SELECT * FROM (VALUES
                ('INSERT', 'NEW TABLE AS added', 'SELECT 1 AS sign, a.* FROM added AS a'),
                ('DELETE', 'OLD TABLE AS removed', 'SELECT -1 AS sign, r.* FROM removed AS r'),
                (
                    'UPDATE', 'OLD TABLE AS removed NEW TABLE AS added',
                    'SELECT 1 AS sign, a.* FROM added AS a UNION ALL SELECT -1, r.* FROM removed AS r'
                )
            ) AS e (operation, tables, rows)
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
    ),
    levels (level, bucket_size) AS (
        VALUES ('minute', interval '1 minute'), ('hour', interval '1 hour')
    )
    INSERT INTO alerts_health_changes (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT
        '%6$s', level, date_bin(bucket_size, minute, '2000-01-01'),
        channel, kind, status, failure_code, retried, -1, sum(amount)
    FROM changed CROSS JOIN levels
    GROUP BY 2, 3, 4, 5, 6, 7, 8
    HAVING sum(amount) <> 0
    UNION ALL
    SELECT
        '%7$s', level, date_bin(bucket_size, minute, '2000-01-01'),
        channel, kind, '', '', FALSE, wait_seconds, sum(amount)
    FROM changed CROSS JOIN levels
    WHERE wait_seconds IS NOT NULL
    GROUP BY 2, 3, 4, 5, 9
    HAVING sum(amount) <> 0;
    GET DIAGNOSTICS changes = ROW_COUNT;
    -- About every 2000 changes, and never long after many at once.
    IF random() * 2000 < changes THEN
        PERFORM alerts_health_fold();
    END IF;
    RETURN NULL;
END
$body$
$f$,
                target.source, lower(event.operation), target.kind, target.queued_at, event.rows,
                target.source, target.item || '_waits'
            );
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER %I AFTER %s ON %I REFERENCING %s '
                'FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_%s_%s()',
                'alerts_health_' || lower(event.operation), event.operation, target.tablename,
                event.tables, target.source, lower(event.operation)
            );
        END LOOP;
    END LOOP;
END
$do$;

-- TRUNCATE tells no rows.
CREATE OR REPLACE FUNCTION alerts_health_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM alerts_health_changes WHERE source IN (TG_ARGV[0], TG_ARGV[1]);
    DELETE FROM alerts_health_counts WHERE source IN (TG_ARGV[0], TG_ARGV[1]);
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER alerts_health_truncate AFTER TRUNCATE ON user_alert_deliveries
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_truncated('deliveries', 'delivery_waits');
CREATE OR REPLACE TRIGGER alerts_health_truncate AFTER TRUNCATE ON user_alert_digests
FOR EACH STATEMENT EXECUTE FUNCTION alerts_health_truncated('digests', 'digest_waits');

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
    ),
    levels (level, bucket_size) AS (
        VALUES ('minute', interval '1 minute'), ('hour', interval '1 hour')
    )
    INSERT INTO alerts_health_counts (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds, amount
    )
    SELECT
        CASE item WHEN 'digest' THEN 'digests' ELSE 'deliveries' END,
        level, date_bin(bucket_size, created_at, '2000-01-01'), coalesce(channel, ''),
        coalesce(kind, ''), coalesce(status, ''), coalesce(failure_code, ''),
        alerts_health_retried(status, attempts::integer), -1, count(*)
    FROM existing CROSS JOIN levels
    WHERE created_at IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    UNION ALL
    SELECT
        CASE item WHEN 'digest' THEN 'digest_waits' ELSE 'delivery_waits' END,
        level, date_bin(bucket_size, created_at, '2000-01-01'), coalesce(channel, ''),
        coalesce(kind, ''), '', '', FALSE, alerts_health_wait_seconds(waited), count(*)
    FROM existing CROSS JOIN levels
    WHERE created_at IS NOT NULL AND status = 'sent' AND waited IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 9;
END
$$;
SELECT alerts_health_recount();

-- Runs by what started them: the schedule's health and GET /runs?triggered_by=.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX IF NOT EXISTS idx_alerts_engine_runs_trigger
ON alerts_engine_runs (triggered_by, started_at DESC);
