"""Time in, commands out: due timers become commands."""
