"""Files that are safe to read and whole when written: checked .npz, restricted pickles, atomic writing, locks, hashes."""
