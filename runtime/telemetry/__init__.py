"""What can be seen of a running server besides its metrics: traces, statistics, GPUs."""
