"""The file STEM.npz: its columns, reading, writing, editing, and resuming it."""
