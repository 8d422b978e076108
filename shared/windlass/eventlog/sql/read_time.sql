-- The schedulers' time as it was written last, if it ever was. At most one row.
SELECT at, boot, boot_s
  FROM scheduler_time
