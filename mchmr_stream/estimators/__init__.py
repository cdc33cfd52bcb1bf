"""Mesh estimators in this process: base class, local network, thread pool, one network for several pipelines."""
