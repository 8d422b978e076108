"""JetStream: streams as data, publishing, consuming."""
