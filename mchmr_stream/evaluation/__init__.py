"""Evaluation: predictions are made once and kept in a file (`*_predictions`), every metric is computed from that file."""
