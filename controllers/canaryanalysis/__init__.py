"""The CanaryAnalysis controller: one step of one run, judged."""
