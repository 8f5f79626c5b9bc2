"""From a decoded spec to Kubernetes objects. Pure: equal input gives equal objects."""
