"""gRPC: the Open Inference Protocol, PaddleModelService, health and reflection."""
