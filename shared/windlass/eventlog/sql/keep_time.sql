-- Write down the schedulers' time.
INSERT INTO scheduler_time AS t (at, boot, boot_s)
VALUES (%(at)s, %(boot)s, %(boot_s)s)
    ON CONFLICT (one) DO UPDATE
   SET at = excluded.at, boot = excluded.boot, boot_s = excluded.boot_s
