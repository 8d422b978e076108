-- End the sessions of other processes, as this role, that stopped speaking in the middle of a message: what they hold would be theirs
-- for ever, since the server counts its time-outs only between messages. Who does not take what it asked for may be slow, and has as
-- long as a statement. Parameters: silent_s, statement_s. Rows: those processes, and whether each was there to be ended. The list is
-- made before the first is ended: conditions side by side are tried in any order.
WITH silent AS MATERIALIZED (
    SELECT pid
      FROM pg_stat_activity
     WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND datname = current_database()
       AND application_name LIKE 'windlass %' AND pid <> pg_backend_pid() AND state <> 'idle' AND wait_event_type = 'Client'
       AND state_change < clock_timestamp() - make_interval(
           secs => CASE wait_event WHEN 'ClientWrite' THEN %(statement_s)s::float8 ELSE %(silent_s)s::float8 END
           )
)
SELECT pid, pg_terminate_backend(pid)
  FROM silent
