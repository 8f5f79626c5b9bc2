"""5,000 PaddleModels through the real operator: `make scale`."""
