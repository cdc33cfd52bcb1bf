"""Weights in and out: import of published checkpoints, export to ONNX and TorchScript, averages."""
