"""What must not be read by everybody: keys that seal it, and redaction of texts that hold it."""
