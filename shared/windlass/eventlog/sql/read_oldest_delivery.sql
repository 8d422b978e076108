-- When the delivery that has waited longest was made, if any waits. Index: deliveries_oldest.
SELECT created_at
  FROM deliveries
 WHERE state = 'WAITING'
 ORDER BY created_at
 LIMIT 1
