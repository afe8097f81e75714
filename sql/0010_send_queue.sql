-- The triggers that keep the send queue, whoever writes and however his session is set up. They
-- run with the rights of the tables' owner. Other than those of health they fail the write that
-- they cannot follow: a message outside the queue would never be sent.
--
-- A queued row is in the queue or held by one lease, never both. Only who takes it out of the
-- queue can hold it, so a row that is in neither may enter. One that is queued and stays so is
-- never put in here: what holds it puts it back.

-- See 0001: the functions of this file keep it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- When a row is due that waits since its creation, or since the end of its window.
CREATE OR REPLACE FUNCTION alerts_due_at(since TIMESTAMPTZ, next_retry_at TIMESTAMPTZ)
RETURNS TIMESTAMPTZ
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(greatest(since, next_retry_at), '-infinity'::timestamptz);

-- The rows of a statement are compared by NOT IN, which hashes them whatever their number: nothing
-- is known of them when a join is planned, and one that compares each with each takes minutes. Nor
-- must a plan made for a short queue read a long one from end to end.
CREATE OR REPLACE FUNCTION alerts_queue_deliveries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO alerts_send_queue (source, id, channel, due_at, user_id)
        SELECT
            'deliveries', a.id, a.channel,
            alerts_due_at(a.created_at::timestamptz, a.next_retry_at::timestamptz), a.user_id
        FROM added AS a
        WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'instant'
          AND a.id::bigint NOT IN (  -- as a restore may bring it
              SELECT l.id FROM alerts_leased AS l WHERE l.source = 'deliveries'
          )
        ON CONFLICT DO NOTHING;
        INSERT INTO alerts_digest_waiting (user_id, delivery_id)
        SELECT a.user_id, a.id
        FROM added AS a
        WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'digest'
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM alerts_send_queue AS q
        USING removed AS r
        WHERE q.source = 'deliveries' AND q.id = r.id::bigint;
        DELETE FROM alerts_digest_waiting AS w
        USING removed AS r
        WHERE w.user_id = r.user_id::bigint AND w.delivery_id = r.id::bigint;
        RETURN NULL;
    END IF;
    DELETE FROM alerts_send_queue AS q
    USING removed AS r
    WHERE r.status::text = 'queued' AND r.delivery_kind::text = 'instant'
      AND r.id::bigint NOT IN (
          SELECT a.id::bigint
          FROM added AS a
          WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'instant'
      )
      AND q.source = 'deliveries' AND q.id = r.id::bigint;
    IF EXISTS (SELECT FROM removed AS r WHERE r.delivery_kind::text = 'digest') THEN
        DELETE FROM alerts_digest_waiting AS w
        USING removed AS r
        WHERE r.status::text = 'queued' AND r.delivery_kind::text = 'digest'
          AND (r.user_id::bigint, r.id::bigint) NOT IN (
              SELECT a.user_id::bigint, a.id::bigint
              FROM added AS a
              WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'digest'
          )
          AND w.user_id = r.user_id::bigint AND w.delivery_id = r.id::bigint;
    END IF;
    IF NOT EXISTS (SELECT FROM added AS a WHERE a.status::text = 'queued') THEN
        RETURN NULL;
    END IF;
    UPDATE alerts_send_queue AS q
    SET channel = a.channel, user_id = a.user_id,
        due_at = alerts_due_at(a.created_at::timestamptz, a.next_retry_at::timestamptz)
    FROM added AS a
    WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'instant'
      AND q.source = 'deliveries' AND q.id = a.id::bigint
      AND (q.channel, q.user_id, q.due_at) IS DISTINCT FROM (
          a.channel::text, a.user_id::bigint,
          alerts_due_at(a.created_at::timestamptz, a.next_retry_at::timestamptz)
      );
    -- The lease of a row that becomes queued again is locked: who lets go of it meanwhile would
    -- not see that it is queued.
    WITH entering AS MATERIALIZED (
        SELECT a.*
        FROM added AS a
        WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'instant'
          AND a.id::bigint NOT IN (
              SELECT r.id::bigint
              FROM removed AS r
              WHERE r.status::text = 'queued' AND r.delivery_kind::text = 'instant'
          )
    ),
    holding AS MATERIALIZED (
        SELECT l.ids
        FROM alerts_leases AS l
        WHERE l.source = 'deliveries' AND EXISTS (
            SELECT
            FROM pg_catalog.unnest(l.ids) AS held (id)
            WHERE (held.id IN (SELECT e.id::bigint FROM entering AS e)) IS TRUE
        )
        FOR SHARE
    )
    INSERT INTO alerts_send_queue (source, id, channel, due_at, user_id)
    SELECT
        'deliveries', e.id, e.channel,
        alerts_due_at(e.created_at::timestamptz, e.next_retry_at::timestamptz), e.user_id
    FROM entering AS e
    WHERE e.id::bigint NOT IN (SELECT pg_catalog.unnest(h.ids) FROM holding AS h)
    ON CONFLICT DO NOTHING;
    INSERT INTO alerts_digest_waiting (user_id, delivery_id)
    SELECT a.user_id, a.id
    FROM added AS a
    WHERE a.status::text = 'queued' AND a.delivery_kind::text = 'digest'
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION alerts_queue_digests() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO alerts_send_queue (source, id, channel, due_at, user_id)
        SELECT
            'digests', a.id, a.channel,
            alerts_due_at(a.window_end::timestamptz, a.next_retry_at::timestamptz), a.user_id
        FROM added AS a
        WHERE a.status::text = 'queued'
          AND a.id::bigint NOT IN (
              SELECT l.id FROM alerts_leased AS l WHERE l.source = 'digests'
          )
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM alerts_send_queue AS q
        USING removed AS r
        WHERE q.source = 'digests' AND q.id = r.id::bigint;
        RETURN NULL;
    END IF;
    DELETE FROM alerts_send_queue AS q
    USING removed AS r
    WHERE r.status::text = 'queued'
      AND r.id::bigint NOT IN (
          SELECT a.id::bigint FROM added AS a WHERE a.status::text = 'queued'
      )
      AND q.source = 'digests' AND q.id = r.id::bigint;
    IF NOT EXISTS (SELECT FROM added AS a WHERE a.status::text = 'queued') THEN
        RETURN NULL;
    END IF;
    UPDATE alerts_send_queue AS q
    SET channel = a.channel, user_id = a.user_id,
        due_at = alerts_due_at(a.window_end::timestamptz, a.next_retry_at::timestamptz)
    FROM added AS a
    WHERE a.status::text = 'queued' AND q.source = 'digests' AND q.id = a.id::bigint
      AND (q.channel, q.user_id, q.due_at) IS DISTINCT FROM (
          a.channel::text, a.user_id::bigint,
          alerts_due_at(a.window_end::timestamptz, a.next_retry_at::timestamptz)
      );
    WITH entering AS MATERIALIZED (
        SELECT a.*
        FROM added AS a
        WHERE a.status::text = 'queued'
          AND a.id::bigint NOT IN (
              SELECT r.id::bigint FROM removed AS r WHERE r.status::text = 'queued'
          )
    ),
    holding AS MATERIALIZED (
        SELECT l.ids
        FROM alerts_leases AS l
        WHERE l.source = 'digests' AND EXISTS (
            SELECT
            FROM pg_catalog.unnest(l.ids) AS held (id)
            WHERE (held.id IN (SELECT e.id::bigint FROM entering AS e)) IS TRUE
        )
        FOR SHARE
    )
    INSERT INTO alerts_send_queue (source, id, channel, due_at, user_id)
    SELECT
        'digests', e.id, e.channel,
        alerts_due_at(e.window_end::timestamptz, e.next_retry_at::timestamptz), e.user_id
    FROM entering AS e
    WHERE e.id::bigint NOT IN (SELECT pg_catalog.unnest(h.ids) FROM holding AS h)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- TRUNCATE tells no rows. Ids may come again after it, so nothing may hold them.
CREATE OR REPLACE FUNCTION alerts_queue_forget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM alerts_leases WHERE source = TG_ARGV[0];
    DELETE FROM alerts_send_queue WHERE source = TG_ARGV[0];
    DELETE FROM alerts_digest_waiting WHERE TG_ARGV[0] = 'deliveries';
    RETURN NULL;
END
$$;

-- Only these triggers may use the owner's rights.
REVOKE ALL ON FUNCTION
    alerts_queue_deliveries(), alerts_queue_digests(), alerts_queue_forget()
FROM PUBLIC;

CREATE OR REPLACE TRIGGER alerts_queue_insert AFTER INSERT ON user_alert_deliveries
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_deliveries();
CREATE OR REPLACE TRIGGER alerts_queue_update AFTER UPDATE ON user_alert_deliveries
REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_deliveries();
CREATE OR REPLACE TRIGGER alerts_queue_delete AFTER DELETE ON user_alert_deliveries
REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_deliveries();
CREATE OR REPLACE TRIGGER alerts_queue_truncate AFTER TRUNCATE ON user_alert_deliveries
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_forget('deliveries');

CREATE OR REPLACE TRIGGER alerts_queue_insert AFTER INSERT ON user_alert_digests
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_digests();
CREATE OR REPLACE TRIGGER alerts_queue_update AFTER UPDATE ON user_alert_digests
REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_digests();
CREATE OR REPLACE TRIGGER alerts_queue_delete AFTER DELETE ON user_alert_digests
REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_digests();
CREATE OR REPLACE TRIGGER alerts_queue_truncate AFTER TRUNCATE ON user_alert_digests
FOR EACH STATEMENT EXECUTE FUNCTION alerts_queue_forget('digests');

-- Every row that is in the queue and should not be, or should be (due_at is given) and is not so.
-- Source 'waiting' are the digest deliveries that wait.
CREATE OR REPLACE FUNCTION alerts_queue_differences()
RETURNS TABLE (source TEXT, id BIGINT, channel TEXT, due_at TIMESTAMPTZ, user_id BIGINT)
LANGUAGE sql STABLE
SET search_path FROM CURRENT SET timezone = 'UTC' SET row_security = off AS $$
WITH to_send AS (
    SELECT
        'deliveries' AS source, d.id::bigint, d.channel::text,
        alerts_due_at(d.created_at::timestamptz, d.next_retry_at::timestamptz) AS due_at,
        d.user_id::bigint
    FROM user_alert_deliveries AS d
    WHERE d.status = 'queued' AND d.delivery_kind = 'instant'
    UNION ALL
    SELECT
        'digests', g.id, g.channel,
        alerts_due_at(g.window_end::timestamptz, g.next_retry_at::timestamptz), g.user_id
    FROM user_alert_digests AS g
    WHERE g.status = 'queued'
),
wanted AS (
    SELECT t.*
    FROM to_send AS t
    WHERE NOT EXISTS (
        SELECT FROM alerts_leased AS l WHERE l.source = t.source AND l.id = t.id
    )
),
waiting AS (
    SELECT d.id::bigint, d.user_id::bigint
    FROM user_alert_deliveries AS d
    WHERE d.status = 'queued' AND d.delivery_kind = 'digest'
)
SELECT
    coalesce(w.source, q.source), coalesce(w.id, q.id), w.channel, w.due_at, w.user_id
FROM wanted AS w
FULL JOIN alerts_send_queue AS q ON q.source = w.source AND q.id = w.id
WHERE (w.channel, w.due_at, w.user_id) IS DISTINCT FROM (q.channel, q.due_at, q.user_id)
UNION ALL
SELECT
    'waiting', coalesce(w.id, x.delivery_id), NULL,
    CASE WHEN w.id IS NOT NULL THEN '-infinity'::timestamptz END, coalesce(w.user_id, x.user_id)
FROM waiting AS w
FULL JOIN alerts_digest_waiting AS x ON x.user_id = w.user_id AND x.delivery_id = w.id
WHERE w.id IS NULL OR x.delivery_id IS NULL
$$;

-- Makes the queue true to the rows; how many entries were wrong. What a lease holds stays there.
-- Writers and senders wait until the transaction ends.
CREATE OR REPLACE FUNCTION alerts_queue_rebuild() RETURNS BIGINT
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    mended bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the queue is rebuilt in a READ COMMITTED transaction only'
            USING ERRCODE = 'invalid_transaction_state',
            HINT = 'A fixed snapshot does not show what was written while waiting for the tables.';
    END IF;
    LOCK TABLE user_alert_deliveries, user_alert_digests IN SHARE ROW EXCLUSIVE MODE;
    WITH differing AS MATERIALIZED (
        SELECT * FROM alerts_queue_differences()
    ),
    gone AS (
        DELETE FROM alerts_send_queue AS q
        USING differing AS d
        WHERE q.source = d.source AND q.id = d.id AND d.due_at IS NULL
    ),
    put AS (
        INSERT INTO alerts_send_queue AS q (source, id, channel, due_at, user_id)
        SELECT source, id, channel, due_at, user_id
        FROM differing
        WHERE source <> 'waiting' AND due_at IS NOT NULL
        ON CONFLICT (source, id) DO UPDATE
        SET channel = excluded.channel, due_at = excluded.due_at, user_id = excluded.user_id
    ),
    waits_no_more AS (
        DELETE FROM alerts_digest_waiting AS x
        USING differing AS d
        WHERE d.source = 'waiting' AND d.due_at IS NULL
          AND x.user_id = d.user_id AND x.delivery_id = d.id
    ),
    waits AS (
        INSERT INTO alerts_digest_waiting (user_id, delivery_id)
        SELECT user_id, id FROM differing WHERE source = 'waiting' AND due_at IS NOT NULL
    )
    SELECT count(*) INTO mended FROM differing;
    RETURN mended;
END
$$;

-- Takes in the rows that are there already.
SELECT alerts_queue_rebuild();
