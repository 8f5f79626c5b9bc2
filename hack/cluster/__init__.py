"""A real Kubernetes node on this host: `python -m hack.cluster up|down|status|binaries|load`."""
