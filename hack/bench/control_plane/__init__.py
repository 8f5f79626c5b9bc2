"""Go's controller-runtime, kopf and our `controller_runtime` do the same work on the same API server."""
