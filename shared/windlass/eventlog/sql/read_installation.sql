-- What was fixed when the installation was made. One row.
SELECT format, shards
  FROM installation
