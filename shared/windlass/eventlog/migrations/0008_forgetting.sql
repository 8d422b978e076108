-- Deliveries that are over, and what is known of jobs that have ended, are forgotten after a while. A job that runs again later is
-- folded from the log once more.
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE hooked ADD COLUMN ended_at timestamptz;               -- of a job: when it was seen to have ended; null: it has not
CREATE INDEX hooked_ended ON hooked (ended_at) WHERE ended_at IS NOT NULL;
UPDATE hooked SET ended_at = now() WHERE definition IS NOT NULL AND state->>'state' IN ('COMPLETED', 'FAILED', 'CANCELLED');
