"""`make test`: what the tests need is built and started first, with progress; then one pytest run."""
