"""The one writer of the log: commands in, events out."""
