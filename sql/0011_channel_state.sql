-- What is wrong with a channel, and random keys that the database makes for itself.

-- See 0001: the function of this file keeps it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- A row a channel, on wall time, from run to run. Closed is one with closed_since: for code, at
-- least until closed_until (NULL: until a run finds the cause gone). failures are its closings in
-- a row. settings_hash is of the settings that it closed with, keyed: it tells only whether they
-- have changed.
CREATE TABLE IF NOT EXISTS alerts_channel_state (
    channel TEXT PRIMARY KEY CHECK (channel IN ('email', 'telegram', 'sms')),
    closed_until TIMESTAMPTZ,
    code TEXT,
    detail TEXT,  -- of what closed it: a fixed phrase, no provider's text
    failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    closed_since TIMESTAMPTZ,
    last_success_at TIMESTAMPTZ,
    last_failure_at TIMESTAMPTZ,
    settings_hash TEXT,
    switched_off BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT ck_alerts_channel_state_closed CHECK (
        CASE WHEN closed_since IS NULL THEN closed_until IS NULL AND code IS NULL
        ELSE code IS NOT NULL END
    )
);
-- One that has sent before waits when its settings are gone.
INSERT INTO alerts_channel_state (channel, last_success_at)
SELECT channel, max(sent_at::timestamptz)
FROM user_alert_deliveries
WHERE status = 'sent' AND channel IN ('email', 'telegram', 'sms')
GROUP BY channel
ON CONFLICT DO NOTHING;

-- 32 random bytes a purpose. Never shown, never logged.
CREATE TABLE IF NOT EXISTS alerts_keys (
    purpose TEXT PRIMARY KEY,
    key BYTEA NOT NULL CHECK (length(key) = 32),
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
-- The source of gen_random_uuid() is the server's strong one; two of them are 244 random bits.
INSERT INTO alerts_keys (purpose, key)
SELECT purpose, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
FROM unnest(ARRAY['settings', 'addresses', 'unsubscribe', 'badge']) AS p (purpose)
ON CONFLICT DO NOTHING;

-- Refusals in a row of one user and channel, and a keyed hash of the address that was refused:
-- with another one, or after a message that was taken, they count from one again.
CREATE TABLE IF NOT EXISTS alerts_refused_addresses (
    user_id BIGINT NOT NULL,
    channel TEXT NOT NULL CHECK (channel IN ('email', 'telegram', 'sms')),
    address_hash BYTEA NOT NULL,
    refusals INTEGER NOT NULL CHECK (refusals > 0),
    last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, channel)
);
SELECT alerts_ensure_foreign_key('alerts_refused_addresses', 'user_id', 'users', 'id', 'CASCADE');

-- The hash of an address for its user and channel.
CREATE OR REPLACE FUNCTION alerts_address_hash(
    user_id BIGINT, channel TEXT, address TEXT
) RETURNS BYTEA
LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
SELECT sha256(k.key || convert_to(concat_ws(':', $1, $2, $3), 'UTF8'))
FROM alerts_keys AS k
WHERE k.purpose = 'addresses'
$$;
