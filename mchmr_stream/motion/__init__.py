"""The file STEM.npz: columns, reading, writing, editing, resuming."""
