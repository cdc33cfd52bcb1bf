"""Training of the head on a frozen encoder: `mchmr train configs/train_default.yaml`."""
