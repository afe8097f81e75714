-- A deployment from before this engine: SERIAL ids, plain TIMESTAMP columns whose values are UTC,
-- columns that the engine does not know, others that it needs and that are missing, a status
-- check without 'sending', and rows that today's checks would not take. Business time is
-- 2022-03-08 18:00 UTC.

CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    email TEXT UNIQUE NOT NULL,
    telegram_chat_id TEXT,
    created_at TIMESTAMP DEFAULT now(),
    password_hash TEXT NOT NULL,
    phone_number VARCHAR(20)
);
CREATE TABLE user_plans (
    user_id INT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    plan TEXT NOT NULL CHECK (plan IN ('free', 'personal', 'trader', 'pro', 'enterprise')),
    plan_price_usd NUMERIC(10, 2) NOT NULL DEFAULT 0,
    alerts_delay_minutes INT NOT NULL DEFAULT 60,
    created_at TIMESTAMP DEFAULT now()
);
CREATE TABLE plan_settings (
    plan_code TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    monthly_price_usd NUMERIC(8, 2) NOT NULL,
    allowed_alert_types TEXT[] NOT NULL,
    max_email_alerts_per_day INT NOT NULL,
    delivery_config JSONB NOT NULL,
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    created_at TIMESTAMP NOT NULL DEFAULT now(),
    updated_at TIMESTAMP NOT NULL DEFAULT now()
);
CREATE TABLE user_alert_prefs (
    id SERIAL PRIMARY KEY,
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    region TEXT NOT NULL DEFAULT 'Europe',
    alert_type TEXT NOT NULL,
    asset TEXT,
    threshold FLOAT,
    enabled BOOLEAN,
    created_at TIMESTAMP DEFAULT now()
);
CREATE TABLE events (
    id SERIAL PRIMARY KEY,
    title TEXT NOT NULL,
    source_name TEXT NOT NULL,
    source_url TEXT NOT NULL UNIQUE,
    category TEXT NOT NULL CHECK (category IN ('geopolitical', 'energy', 'supply_chain')),
    region TEXT NOT NULL,
    severity_score INT NOT NULL CHECK (severity_score BETWEEN 1 AND 5),
    event_time TIMESTAMP,
    raw_text TEXT,
    inserted_at TIMESTAMP NOT NULL DEFAULT now(),
    processed BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE risk_events (
    id SERIAL PRIMARY KEY,
    event_id INT NOT NULL UNIQUE REFERENCES events (id) ON DELETE CASCADE,
    region TEXT NOT NULL,
    category TEXT NOT NULL,
    base_severity INT NOT NULL,
    ai_confidence FLOAT NOT NULL,
    weighted_score FLOAT NOT NULL,
    created_at TIMESTAMP DEFAULT now()
);
CREATE TABLE risk_indices (
    id SERIAL PRIMARY KEY,
    region TEXT NOT NULL,
    window_days INT NOT NULL,
    risk_score FLOAT NOT NULL,
    trend TEXT NOT NULL,
    calculated_at TIMESTAMP DEFAULT now()
);
CREATE TABLE asset_risk (
    id SERIAL PRIMARY KEY,
    asset TEXT NOT NULL,
    region TEXT NOT NULL,
    window_days INT NOT NULL,
    risk_score FLOAT NOT NULL,
    direction TEXT NOT NULL,
    calculated_at TIMESTAMP DEFAULT now()
);
CREATE TABLE alert_events (
    id SERIAL PRIMARY KEY,
    alert_type TEXT NOT NULL,
    scope_region TEXT,
    scope_assets TEXT[],
    severity INT NOT NULL DEFAULT 3,
    headline TEXT NOT NULL,
    body TEXT NOT NULL,
    driver_event_ids INT[],
    cooldown_key TEXT NOT NULL,
    event_fingerprint TEXT,
    fanout_completed_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX uq_alert_events_cooldown_key ON alert_events (cooldown_key);
CREATE INDEX idx_alert_events_created_at ON alert_events (created_at DESC);
CREATE TABLE user_alert_deliveries (
    id SERIAL PRIMARY KEY,
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    alert_event_id INT REFERENCES alert_events (id) ON DELETE CASCADE,
    channel TEXT NOT NULL CHECK (channel IN ('email', 'telegram', 'sms', 'account')),
    status TEXT NOT NULL CHECK (status IN ('queued', 'sent', 'skipped', 'failed')),
    reason TEXT,
    provider_message_id TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT now(),
    sent_at TIMESTAMP,
    delivery_kind TEXT NOT NULL DEFAULT 'instant',
    attempts INT NOT NULL DEFAULT 0,
    next_retry_at TIMESTAMP,
    last_error TEXT,
    index_date DATE
);
CREATE INDEX idx_user_alert_deliveries_status ON user_alert_deliveries (status);
CREATE TABLE user_alert_digests (
    id SERIAL PRIMARY KEY,
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel TEXT NOT NULL CHECK (channel IN ('email', 'telegram')),
    period TEXT NOT NULL CHECK (period IN ('daily', 'hourly')),
    window_start TIMESTAMP NOT NULL,
    window_end TIMESTAMP NOT NULL,
    digest_key TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'skipped')),
    attempts INT NOT NULL DEFAULT 0,
    next_retry_at TIMESTAMP,
    last_error TEXT,
    sent_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL DEFAULT now()
);
CREATE TABLE user_alert_digest_items (
    id SERIAL PRIMARY KEY,
    digest_id INT NOT NULL REFERENCES user_alert_digests (id) ON DELETE CASCADE,
    delivery_id INT NOT NULL REFERENCES user_alert_deliveries (id) ON DELETE CASCADE,
    created_at TIMESTAMP NOT NULL DEFAULT now(),
    UNIQUE (digest_id, delivery_id)
);

INSERT INTO users (id, email, telegram_chat_id, password_hash, phone_number)
VALUES
(1, 'free@example.com', NULL, 'hash-1', NULL),
(2, 'trader@example.com', '1002', 'hash-2', NULL),
(3, 'pro@example.com', '1003', 'hash-3', '+31600000003'),
(4, 'enterprise@example.com', NULL, 'hash-4', '+31600000004'),
(5, 'off@example.com', '1005', 'hash-5', NULL);
SELECT setval('users_id_seq', 5);
INSERT INTO user_plans (user_id, plan, plan_price_usd)
VALUES (1, 'free', 0), (2, 'trader', 27.5), (3, 'pro', 49), (4, 'enterprise', 99);
-- Prices and a limit that somebody has edited, and one plan that is not there yet.
INSERT INTO plan_settings (
    plan_code, display_name, monthly_price_usd, allowed_alert_types, max_email_alerts_per_day,
    delivery_config
)
VALUES
(
    'free', 'Free', 0, '{HIGH_IMPACT_EVENT}', 2,
    '{"email": {"max_per_day": 2, "realtime_limit": 1, "mode": "limited"},
      "telegram": {"enabled": false, "send_all": false},
      "sms": {"enabled": false, "send_all": false}, "account": {"show_all": true}}'
),
(
    'trader', 'Trader (legacy)', 27.5, '{HIGH_IMPACT_EVENT,REGIONAL_RISK_SPIKE,ASSET_RISK_SPIKE}', 9,
    '{"email": {"max_per_day": 9, "realtime_limit": 3, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": false, "send_all": false}, "account": {"show_all": true}}'
),
(
    'pro', 'Pro', 44.44, '{HIGH_IMPACT_EVENT,REGIONAL_RISK_SPIKE,ASSET_RISK_SPIKE,DAILY_DIGEST}', 15,
    '{"email": {"max_per_day": 15, "realtime_limit": null, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": true, "send_all": true}, "account": {"show_all": true}}'
),
(
    'enterprise', 'Enterprise', 99, '{ALL}', 30,
    '{"email": {"max_per_day": 30, "realtime_limit": null, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": true, "send_all": true}, "account": {"show_all": true}}'
);
INSERT INTO user_alert_prefs (user_id, region, alert_type, threshold, enabled)
VALUES
(2, 'Europe', 'HIGH_IMPACT_EVENT', 4, TRUE),
(2, 'Europe', 'REGIONAL_RISK_SPIKE', 60, NULL),
(3, 'Global', 'HIGH_IMPACT_EVENT', NULL, TRUE),
(3, 'europe', 'ASSET_RISK_SPIKE', 70, TRUE),
(5, 'Europe', 'HIGH_IMPACT_EVENT', 4, FALSE);

INSERT INTO events (
    id, title, source_name, source_url, category, region, severity_score, event_time, inserted_at
)
VALUES
(1, 'Pipeline stops', 'wire', 'https://example.com/1', 'energy', 'Europe', 5,
 '2022-03-08 09:00', '2022-03-08 09:30'),
(2, 'Strait is closed', 'wire', 'https://example.com/2', 'geopolitical', 'Middle East', 4,
 NULL, '2022-03-08 17:59:59'),
-- Eighteen hours in UTC, and a day where somebody reads it as New York's time.
(3, 'Port on strike', 'wire', 'https://example.com/3', 'supply_chain', 'Europe', 4,
 NULL, '2022-03-07 17:30'),
(4, 'Not yet known', 'wire', 'https://example.com/4', 'energy', 'Europe', 5,
 NULL, '2022-03-08 19:00');
SELECT setval('events_id_seq', 4);
INSERT INTO risk_events (event_id, region, category, base_severity, ai_confidence, weighted_score)
VALUES (1, 'Europe', 'energy', 5, 0.9, 4.5);
INSERT INTO risk_indices (region, window_days, risk_score, trend, calculated_at)
VALUES
('Europe', 7, 55, 'stable', '2022-03-06 12:00'),
('Europe', 7, 68, 'rising', '2022-03-08 12:00'),
('Asia', 7, 99, 'rising', NULL);
INSERT INTO asset_risk (asset, region, window_days, risk_score, direction, calculated_at)
VALUES ('gas', 'Europe', 7, 91, 'up', '2022-03-08 06:00');

INSERT INTO alert_events (
    id, alert_type, scope_region, scope_assets, severity, headline, body, cooldown_key,
    event_fingerprint, fanout_completed_at, created_at
)
VALUES
(1, 'HIGH_IMPACT_EVENT', 'Europe', NULL, 5, 'From last year', 'Old.', 'k1', NULL,
 '2021-03-08 10:00', '2021-03-08 10:00'),
(2, 'HIGH_IMPACT_EVENT', 'Europe', '{}', 5, 'Of yesterday', 'Done.', 'k2', 'k2',
 '2022-03-07 10:00', '2022-03-07 10:00'),
(3, 'HIGH_IMPACT_EVENT', 'Europe', '{}', 4, 'Waits for fan-out', 'New.', 'k3', 'k3',
 NULL, '2022-03-08 17:00'),
(4, 'HIGH_IMPACT_EVENT', 'Europe', '{}', 4, 'Never fanned out', 'Late.', 'k4', 'k4',
 NULL, '2022-03-01 10:00'),
(5, 'DAILY_DIGEST', NULL, '{oil,gas}', 3, 'Of another part', 'Other.', 'k5', 'k5',
 '2022-03-08 06:00', '2022-03-08 06:00');
SELECT setval('alert_events_id_seq', 5);
INSERT INTO user_alert_deliveries (
    id, user_id, alert_event_id, channel, delivery_kind, status, attempts, next_retry_at,
    last_error, sent_at, index_date, created_at
)
VALUES
-- What today's checks would not take: sent without a time, failed without time and code.
(1, 2, 1, 'email', 'instant', 'sent', 1, NULL, NULL, NULL, NULL, '2021-03-08 10:00'),
(2, 3, 1, 'email', 'instant', 'failed', 3, NULL, 'smtp says no', NULL, NULL, '2021-03-08 10:00'),
(3, 4, 1, 'email', 'instant', 'queued', 0, NULL, NULL, NULL, NULL, '2021-03-08 10:00'),
(4, 2, 2, 'email', 'instant', 'queued', 0, NULL, NULL, NULL, NULL, '2022-03-08 17:55'),
-- Due by half an hour in UTC; four and a half hours ahead, read as New York's time.
(5, 3, 2, 'email', 'instant', 'queued', 1, '2022-03-08 17:30', 'busy', NULL, NULL, '2022-03-07 10:00'),
(6, 3, 2, 'telegram', 'instant', 'queued', 1, '2022-03-08 18:30', 'busy', NULL, NULL, '2022-03-07 10:00'),
(7, 1, 2, 'email', 'digest', 'queued', 0, NULL, NULL, NULL, NULL, '2022-03-07 10:00'),
(8, 4, 2, 'email', 'digest', 'skipped', 0, NULL, NULL, NULL, NULL, '2022-03-07 10:00'),
-- Other parts of the product keep kinds of their own here, without an event.
(9, 2, NULL, 'email', 'index_digest', 'queued', 0, NULL, NULL, NULL, '2022-03-08', '2022-03-08 06:00'),
(10, 2, NULL, 'email', 'index_digest', 'failed', 1, NULL, 'no', NULL, '2022-03-08', '2022-03-08 06:00'),
(11, 3, NULL, 'email', 'index_digest', 'sent', 1, NULL, NULL, '2022-03-08 06:01', '2022-03-08', '2022-03-08 06:00');
SELECT setval('user_alert_deliveries_id_seq', 11);
INSERT INTO user_alert_digests (
    id, user_id, channel, period, window_start, window_end, digest_key, status, attempts, created_at
)
VALUES
-- A closed window that waits, and one whose sender went away before there were claims.
(1, 4, 'email', 'daily', '2022-03-06 23:00', '2022-03-07 23:00',
 '4:email:daily:2022-03-06T23:00:00Z', 'queued', 0, '2022-03-07 23:10'),
(2, 3, 'email', 'daily', '2022-03-05 23:00', '2022-03-06 23:00',
 '3:email:daily:2022-03-05T23:00:00Z', 'sending', 1, '2022-03-06 23:10');
SELECT setval('user_alert_digests_id_seq', 2);
INSERT INTO user_alert_digest_items (digest_id, delivery_id) VALUES (1, 8);
