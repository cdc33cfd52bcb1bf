"""The flow from pictures to scenes, the factory of its components, and what changes while it runs."""
