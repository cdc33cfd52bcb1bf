"""Video and sound out: H.264, sound of the source, pushing to servers, continuing an earlier overlay."""
