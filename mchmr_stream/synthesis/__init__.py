"""Rendered, dressed people with exact labels, for training and testing the network. Not used at inference.

Body: rig. Person: random_shapes, poses, garments, textures, wardrobe, people. Camera: random_cameras. Picture: lighting, rooms,
backgrounds, textured_rasterizer, render, image_effects. Then generator, and shards (files).
"""
