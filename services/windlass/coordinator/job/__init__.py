"""A job's stream: state, decide, evolve, and what is published of it."""
