"""MoveNet's networks: the blocks they share, MultiPose (whole picture) and Thunder (one person's crop)."""
