"""One machine: embedded servers, the supervisor behind `up`, and the commands that talk to it."""
