"""Training: `observations` of rendered people, `frozen_encoder`, `end_to_end`, and `common` parts of both."""
