"""Envoy routers that the operator runs: configuration as a pure function, served over ADS by the leader."""
