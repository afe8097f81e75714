-- Leaving: when a user unsubscribed a channel by the link of a message.

-- See 0001: the function of this file keeps it.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- On the business clock. Only of a channel that is off: one that the user switches off in the app
-- has none, so undoing an unsubscription never switches that on.
ALTER TABLE user_channel_prefs ADD COLUMN IF NOT EXISTS unsubscribed_at TIMESTAMPTZ;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX IF NOT EXISTS idx_user_channel_prefs_unsubscribed
ON user_channel_prefs (unsubscribed_at) WHERE unsubscribed_at IS NOT NULL;

-- Whoever switches the channel on again, with whatever statement, ends the unsubscription.
CREATE OR REPLACE FUNCTION alerts_unsubscription_ends() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.unsubscribed_at := NULL;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER alerts_unsubscription_ends BEFORE UPDATE ON user_channel_prefs
FOR EACH ROW WHEN (NEW.enabled AND NEW.unsubscribed_at IS NOT NULL)
EXECUTE FUNCTION alerts_unsubscription_ends();
