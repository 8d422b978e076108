"""The words the services speak: envelope, commands, events, reports, orders, notices."""
