-- The figures of delivery health, kept by the database itself, so that rows written by hand count
-- too: how many deliveries and digests were created in each minute, ten minutes, hour and six hours,
-- by what became of them. Health sums the largest buckets that fit between two minutes.
--
-- Statement-level triggers append what a statement changed to alerts_health_changes. It has no
-- key, so writers never wait for each other there, however long their transactions are. Now and
-- then one of them folds the changes into alerts_health_counts. A count is the sum over both.

-- See 0001: the functions of this file keep it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

CREATE TABLE IF NOT EXISTS alerts_health_counts (
    source TEXT NOT NULL,  -- deliveries, digests; of those sent delivery_waits, digest_waits, risk_waits
    level TEXT NOT NULL,  -- minute, ten_minutes, hour, six_hours
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

-- What is queued, of however long ago: as many entries as there are blocks of it.
CREATE INDEX IF NOT EXISTS idx_alerts_health_counts_queued
ON alerts_health_counts (source, kind) INCLUDE (amount)
WHERE level = 'six_hours' AND status = 'queued' AND amount <> 0;

-- So many rows more (or fewer), alike in all that health tells apart.
CREATE TABLE IF NOT EXISTS alerts_health_changes (
    source TEXT NOT NULL,  -- deliveries, digests
    minute TIMESTAMPTZ NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    failure_code TEXT NOT NULL,
    retried BOOLEAN NOT NULL,
    wait_seconds INTEGER NOT NULL,  -- -1 but for those sent
    risk_seconds INTEGER NOT NULL,  -- -1 but for those sent whose risk data's time is known
    amount BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_alerts_health_changes ON alerts_health_changes (minute);

-- Functions of one expression, which the planner takes into the statement that calls them. What
-- the names in them mean is settled here, once, whatever anybody makes later.

-- How long a message took from queued to sent, or from risk data to sent, in whole seconds, rounded up to the next of four
-- steps an octave (8, 10, 12, 14, 16, 20 ...): at most a quarter too long. Half a second less
-- keeps the logarithm away from whole numbers, where it could fall on either side.
CREATE OR REPLACE FUNCTION alerts_health_step(seconds DOUBLE PRECISION) RETURNS DOUBLE PRECISION
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 2::double precision ^ greatest(
    0, ceil(ln(seconds - 0.5::double precision) / ln(2::double precision)) - 3::double precision
);
CREATE OR REPLACE FUNCTION alerts_health_round_up(seconds DOUBLE PRECISION) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (ceil(seconds / alerts_health_step(seconds)) * alerts_health_step(seconds))::integer;
CREATE OR REPLACE FUNCTION alerts_health_wait_seconds(waited INTERVAL) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN alerts_health_round_up(least(greatest(ceil(date_part('epoch'::text, waited)), 1), 1048576));

-- Whether a row had to be tried more than once, or waits to be.
CREATE OR REPLACE FUNCTION alerts_health_retried(status TEXT, attempts INTEGER) RETURNS BOOLEAN
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(attempts > 1 OR (status = 'queued' AND attempts >= 1), FALSE);

-- Where a row of deliveries or digests is counted. No row where nobody knows when it was made.
CREATE OR REPLACE FUNCTION alerts_health_cell(
    created_at TIMESTAMPTZ, queued_at TIMESTAMPTZ, risk_at TIMESTAMPTZ, sent_at TIMESTAMPTZ,
    row_channel TEXT, row_kind TEXT, row_status TEXT, row_code TEXT, attempts INTEGER
) RETURNS TABLE (
    minute TIMESTAMPTZ, channel TEXT, kind TEXT, status TEXT, failure_code TEXT, retried BOOLEAN,
    wait_seconds INTEGER, risk_seconds INTEGER
)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        date_bin(interval '1 minute', created_at, timestamptz '2000-01-01 00:00+00'),
        coalesce(row_channel, ''),
        coalesce(row_kind, ''),
        coalesce(row_status, ''),
        coalesce(row_code, ''),
        alerts_health_retried(row_status, attempts),
        CASE
            WHEN row_status = 'sent' AND isfinite(sent_at) AND isfinite(queued_at)
                THEN alerts_health_wait_seconds(sent_at - queued_at)
            ELSE -1
        END,
        CASE
            WHEN row_status = 'sent' AND isfinite(sent_at) AND isfinite(risk_at)
                THEN alerts_health_wait_seconds(sent_at - risk_at)
            ELSE -1
        END
    WHERE created_at IS NOT NULL;
END;

-- What a change is counted as: what became of the rows, and if they were sent how long it took.
CREATE OR REPLACE FUNCTION alerts_health_sources(
    rows_of TEXT, row_status TEXT, row_code TEXT, row_retried BOOLEAN, row_wait INTEGER,
    row_risk INTEGER
) RETURNS TABLE (
    source TEXT, status TEXT, failure_code TEXT, retried BOOLEAN, wait_seconds INTEGER
)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT rows_of, row_status, row_code, row_retried, -1
    UNION ALL
    SELECT
        CASE rows_of WHEN 'deliveries' THEN 'delivery_waits' ELSE 'digest_waits' END,
        '', '', FALSE, row_wait
    WHERE row_wait >= 0
    UNION ALL
    SELECT 'risk_waits', '', '', FALSE, row_risk
    WHERE row_risk >= 0;
END;

-- The buckets that a minute is counted in, all in UTC.
CREATE OR REPLACE FUNCTION alerts_health_levels(minute TIMESTAMPTZ)
RETURNS TABLE (level TEXT, bucket TIMESTAMPTZ)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    VALUES
        ('minute', minute),
        ('ten_minutes', date_bin(interval '10 minutes', minute, timestamptz '2000-01-01 00:00+00')),
        ('hour', date_bin(interval '1 hour', minute, timestamptz '2000-01-01 00:00+00')),
        ('six_hours', date_bin(interval '6 hours', minute, timestamptz '2000-01-01 00:00+00'));
END;

-- The changes as the counts of minutes that they will become: alerts_health_sources once more, in
-- the form that health reads fastest.
CREATE OR REPLACE VIEW alerts_health_recent AS
SELECT
    source, 'minute' AS level, minute AS bucket, channel, kind, status, failure_code, retried,
    -1 AS wait_seconds, amount
FROM alerts_health_changes
UNION ALL
SELECT
    CASE source WHEN 'deliveries' THEN 'delivery_waits' ELSE 'digest_waits' END,
    'minute', minute, channel, kind, '', '', FALSE, wait_seconds, amount
FROM alerts_health_changes
WHERE wait_seconds >= 0
UNION ALL
SELECT 'risk_waits', 'minute', minute, channel, kind, '', '', FALSE, risk_seconds, amount
FROM alerts_health_changes
WHERE risk_seconds >= 0;

-- Moves the changes into the counts. One at a time: whoever finds another at it (or one whose
-- transaction is still open) leaves them. Not in a transaction of a fixed snapshot, which may not
-- delete what others have deleted since.
CREATE OR REPLACE FUNCTION alerts_health_fold() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') <> 'read committed'
        OR NOT pg_catalog.pg_try_advisory_xact_lock(
            pg_catalog.hashtextextended('alerts_health_fold', 0)
        )
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
        s.source, l.level, l.bucket, t.channel, t.kind, s.status, s.failure_code, s.retried,
        s.wait_seconds, pg_catalog.sum(t.amount)::bigint
    FROM taken AS t
    CROSS JOIN LATERAL alerts_health_levels(t.minute) AS l
    CROSS JOIN LATERAL alerts_health_sources(
        t.source, t.status, t.failure_code, t.retried, t.wait_seconds, t.risk_seconds
    ) AS s
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    HAVING pg_catalog.sum(t.amount)::bigint <> 0
    ON CONFLICT (
        source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds
    ) DO UPDATE SET amount = c.amount + excluded.amount;
END
$$;

-- Folds about every 1000 changes, and never long after many at once. Without success the changes
-- stay: nothing is lost, and the next one tries again.
CREATE OR REPLACE FUNCTION alerts_health_fold_at_times(changes BIGINT) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_catalog.random() * 1000::double precision < changes::double precision THEN
        PERFORM alerts_health_fold();
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'alerts_health_fold failed and will be tried again: %', SQLERRM;
END
$$;
