"""`python -m hack.bench.soak`: the inference server for hours under load, reloaded again and again."""
