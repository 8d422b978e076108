"""Keys and redaction."""
