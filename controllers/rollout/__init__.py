"""Which revision a spec is, and how one revision takes over from another. Pure."""
