"""Work in, programs run, outcomes out."""
