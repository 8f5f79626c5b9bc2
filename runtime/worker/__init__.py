"""The worker process: one model, one predictor, one thread. Started by the front with exec, never by fork."""
