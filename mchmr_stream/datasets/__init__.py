"""Labelled pictures of people from the file layouts of the field: one record, one reader protocol, a mixture."""
