-- Jobs may be paused; what waits for its time may be a composite, whose size is known later.
ALTER TABLE jobs ADD COLUMN paused_at timestamptz; -- nothing new of it starts
