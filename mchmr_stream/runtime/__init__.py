"""Execution: threads and channels, torch's number of threads, the allocator, oneDNN, back-off, addresses, versions."""
