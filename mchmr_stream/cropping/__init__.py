"""Crop views of each person: base box, layouts, and the warp that cuts them."""
