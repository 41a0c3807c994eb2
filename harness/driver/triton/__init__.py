"""The driver for Triton Inference Server, over gRPC."""
