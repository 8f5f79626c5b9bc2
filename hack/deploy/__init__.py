"""Puts the operator into a cluster, and takes it out again."""
