"""How a canary is judged: evidence from counts, PromQL, conditions, verdicts. Pure."""
