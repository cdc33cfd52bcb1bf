"""Training of encoder and head together on labelled pictures: `mchmr train configs/paper_*.yaml`."""
