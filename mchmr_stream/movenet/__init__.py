"""MoveNet's networks: their common blocks, MultiPose (whole picture) and Thunder (one person's crop)."""
