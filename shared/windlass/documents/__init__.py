"""What people write, read with limits: bytes of JSON or YAML become a job that can be accepted, or a reason why not."""
