"""Labelled pictures of people, from the files that the field passes around: one record, one reader protocol, a mixture."""
