"""Export of finished motion for other programs: one file here per format, `formats.export_motion` is the entry point.

Established libraries do the encoding. The mapping is done here: axes, units, times, gaps and one shape per person. All files are in
metres with y up (x right, y up, z towards the viewer, the camera at the origin) unless the format's readers expect otherwise; each
file's docstring says so.
"""
