-- What the owner has stopped: the whole engine ('all') or one channel. A row means paused.

CREATE TABLE IF NOT EXISTS alerts_pauses (
    channel TEXT PRIMARY KEY CHECK (channel IN ('all', 'email', 'telegram', 'sms')),
    reason TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    paused_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    token_key_id TEXT NOT NULL
);
