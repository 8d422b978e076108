-- What was said may be lost with the broker's streams: it is due now. Index: timers_fired.
UPDATE timers
   SET fire_at = %(now)s, fires = 1
 WHERE fires > 0 AND fire_at > %(now)s
