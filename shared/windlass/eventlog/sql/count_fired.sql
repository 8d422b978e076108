-- How many timers were said whose effect is not on record. Index: timers_fired.
SELECT count(*)
  FROM timers
 WHERE fires > 0
