"""Benchmarks: each prints one line a bar (name, value, limit, holds or misses); JSON in .local/bench."""
