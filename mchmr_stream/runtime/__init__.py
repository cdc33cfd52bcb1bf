"""What runs the stages: threads and channels, how many threads torch uses, the allocator, oneDNN."""
