"""HTTP in, commands out; answers from projections."""
