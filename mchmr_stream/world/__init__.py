"""From a standing camera to the world: gravity and floor from the people, feet that stand where they stand.

Everything is an estimate from the bodies alone; the picture's background is never looked at. `estimate.ground` is the whole; docs/world.md
explains it.
"""
