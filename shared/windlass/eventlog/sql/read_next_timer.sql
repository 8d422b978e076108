-- When the next timer is to be said, null if there is none. One row. Index: timers_to_fire.
SELECT min(fire_at)
  FROM timers
