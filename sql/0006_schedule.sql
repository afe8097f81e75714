-- Which slot of the schedule a run was meant for, and how late it started.
-- NULL for runs that no schedule started, and for those of before.

ALTER TABLE alerts_engine_runs ADD COLUMN IF NOT EXISTS scheduled_for TIMESTAMPTZ;
ALTER TABLE alerts_engine_runs ADD COLUMN IF NOT EXISTS late_seconds BIGINT;
