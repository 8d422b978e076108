-- When a scheduler last had followed a shard to its head, in the schedulers' time: what is read after that was written after that.
ALTER TABLE timer_cursors ADD COLUMN level_at timestamptz;
