-- The plans of the product and the one place that reads their delivery_config.

-- DO NOTHING: prices and limits are edited in place, and those edits stay.
INSERT INTO plan_settings (
    plan_code,
    display_name,
    monthly_price_usd,
    allowed_alert_types,
    max_email_alerts_per_day,
    delivery_config
)
VALUES
(
    'free', 'Free', 0.00, '{HIGH_IMPACT_EVENT}', 2,
    '{"email": {"max_per_day": 2, "realtime_limit": 1, "mode": "limited"},
      "telegram": {"enabled": false, "send_all": false},
      "sms": {"enabled": false, "send_all": false},
      "account": {"show_all": true}}'
),
(
    'personal', 'Personal', 9.95, '{HIGH_IMPACT_EVENT,REGIONAL_RISK_SPIKE}', 4,
    '{"email": {"max_per_day": 4, "realtime_limit": 1, "mode": "limited"},
      "telegram": {"enabled": false, "send_all": false},
      "sms": {"enabled": false, "send_all": false},
      "account": {"show_all": true}}'
),
(
    'trader', 'Trader', 29.00, '{HIGH_IMPACT_EVENT,REGIONAL_RISK_SPIKE,ASSET_RISK_SPIKE}', 8,
    '{"email": {"max_per_day": 8, "realtime_limit": 3, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": false, "send_all": false},
      "account": {"show_all": true}}'
),
(
    'pro', 'Pro', 49.00, '{ALL}', 15,
    '{"email": {"max_per_day": 15, "realtime_limit": null, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": true, "send_all": true},
      "account": {"show_all": true}}'
),
(
    'enterprise', 'Enterprise', 129.00, '{ALL}', 30,
    '{"email": {"max_per_day": 30, "realtime_limit": null, "mode": "limited"},
      "telegram": {"enabled": true, "send_all": true},
      "sms": {"enabled": true, "send_all": true},
      "account": {"show_all": true}}'
)
ON CONFLICT (plan_code) DO NOTHING;

-- What a plan allows on each channel. instant_per_day NULL: no limit.
-- delivery_config is edited by hand: a figure that is no number counts as
-- absent, and one too large for an integer as the largest, instead of failing
-- every fan-out with a cast error.
CREATE OR REPLACE VIEW plan_channel_limits AS
WITH email AS (
    SELECT
        plan_code,
        delivery_config,
        coalesce(
            CASE
                WHEN jsonb_typeof(delivery_config #> '{email,max_per_day}') = 'number'
                    THEN least(
                        greatest(0, floor((delivery_config #>> '{email,max_per_day}')::numeric)),
                        2147483647
                    )
            END,
            greatest(0, max_email_alerts_per_day)
        )::integer AS max_per_day,
        CASE
            WHEN jsonb_typeof(delivery_config #> '{email,realtime_limit}') = 'number'
                THEN least(
                    greatest(0, floor((delivery_config #>> '{email,realtime_limit}')::numeric)),
                    2147483647
                )
        END::integer AS realtime_limit
    FROM plan_settings
)
SELECT
    email.plan_code,
    limits.channel,
    limits.allowed,
    limits.instant_per_day
FROM email
CROSS JOIN LATERAL (
    SELECT
        coalesce(email.delivery_config #>> '{telegram,enabled}' = 'true', FALSE) AS telegram,
        coalesce(email.delivery_config #>> '{telegram,send_all}' = 'true', FALSE) AS telegram_all,
        coalesce(email.delivery_config #>> '{sms,enabled}' = 'true', FALSE) AS sms,
        coalesce(email.delivery_config #>> '{sms,send_all}' = 'true', FALSE) AS sms_all,
        coalesce(email.delivery_config #>> '{account,show_all}' <> 'false', TRUE) AS account,
        coalesce(email.realtime_limit, email.max_per_day) AS instant
) AS config
CROSS JOIN LATERAL (
    VALUES
    ('email', TRUE, config.instant),
    (
        'telegram', config.telegram,
        CASE WHEN NOT config.telegram THEN 0 WHEN config.telegram_all THEN email.max_per_day ELSE config.instant END
    ),
    (
        'sms', config.sms,
        CASE WHEN NOT config.sms THEN 0 WHEN config.sms_all THEN email.max_per_day ELSE config.instant END
    ),
    ('account', config.account, NULL::integer)
) AS limits (channel, allowed, instant_per_day);
