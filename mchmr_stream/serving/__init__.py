"""The network on Triton Inference Server: model repository, model process, server process, metrics."""
