"""PostgreSQL: the append-only log and the projections written with it."""
