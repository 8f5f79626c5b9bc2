"""Faults on a real API server: what a controller must survive, and what must be true afterwards."""
