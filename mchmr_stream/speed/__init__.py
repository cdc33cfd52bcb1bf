"""Speed measurements: a reproducible clip, each stage alone, the full pipeline, and the description of the machine."""
