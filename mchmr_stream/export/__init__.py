"""Finished motion for other programs: one file here per format, `formats.export_motion` chooses among them.

Kept libraries do the encoding; what is ours is the mapping: axes, units, times, gaps and one shape per person. All files have
metres, and y up (x right, y up, z towards the viewer, the camera at the origin) unless the format's readers expect otherwise; each
file's docstring says so.
"""
