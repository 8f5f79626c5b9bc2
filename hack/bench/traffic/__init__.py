"""How soon a weight that was decided is in force on every router."""
