"""Training: `observations` of rendered people, `frozen_encoder`, `end_to_end`, and what both share in `common`."""
