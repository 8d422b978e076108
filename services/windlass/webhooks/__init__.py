"""Events in, signed HTTP calls out."""
