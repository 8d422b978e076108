-- Some task rows of a deleted job, with all that belongs to them. Rows: how many. Indexes: tasks_of_job, the primary keys.
WITH gone AS (
    DELETE FROM tasks
     WHERE id IN (SELECT id FROM tasks WHERE job = %(job)s::uuid LIMIT %(most)s)
    RETURNING id
), counted AS (
    DELETE FROM composites AS c
     USING gone
     WHERE c.task = gone.id
), lists AS (
    DELETE FROM each_items AS e
     USING gone
     WHERE e.task = gone.id
)
SELECT count(*) FROM gone
