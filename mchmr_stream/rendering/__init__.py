"""Drawing bodies into a picture: rasterizer, shading, labels, colours."""
