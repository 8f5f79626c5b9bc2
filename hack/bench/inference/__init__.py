"""`python -m hack.bench.inference`: the inference server against a peer and against the bare predictor."""
