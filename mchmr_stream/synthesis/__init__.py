"""Rendered, dressed people with exact labels, to train and test the network on. Nothing here runs at inference.

rig (the body) -> shapes, poses, garments, textures, wardrobe (who) -> people, cameras (where) -> lighting, rooms,
backgrounds, raster, render, effects (the picture) -> generator -> shards (files).
"""
