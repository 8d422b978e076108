"""Doubles of the servers, in memory: contract tests show that they are equal to the real ones where it matters."""
