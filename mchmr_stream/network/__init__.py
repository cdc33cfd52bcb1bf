"""The network: encoders, crop-aware fusion, heads, and its weights on disk. Inference only."""
