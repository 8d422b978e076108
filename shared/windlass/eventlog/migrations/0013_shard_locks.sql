-- The first half of the keys by which sessions own shards (the second is the shard): each installation of a database has its own.
-- The usual one keeps the number that coordinators of the releases before have in their code ("wind"), so that old and new ones
-- exclude each other while one release follows the other.
CREATE FUNCTION shard_locks() RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT CASE current_schema() WHEN 'windlass' THEN 2003398244 ELSE hashtext(current_schema() || '.shards') & 2147483647 END
$$;
