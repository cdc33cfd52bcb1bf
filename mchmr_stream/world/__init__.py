"""World-grounded motion from a standing camera: gravity and floor estimated from the people, feet locked during contact.

All estimates come from the bodies alone; the picture's background is not used. `world_motion.ground` is the entry point; docs/world.md
explains the method.
"""
