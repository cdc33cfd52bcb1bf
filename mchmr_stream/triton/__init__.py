"""The client of a Triton Inference Server: wire format, connection, shared memory, estimator."""
