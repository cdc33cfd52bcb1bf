"""Evaluation: `*_predictions` modules run the network once and store its output; all metrics are computed from those files."""
