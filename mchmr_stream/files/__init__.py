"""File handling: checked .npz, restricted pickles, atomic writing, locks, hashes."""
