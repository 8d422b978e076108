"""The docker runtime: a task in a container of an engine that speaks Docker's API."""
