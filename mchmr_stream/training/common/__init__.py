"""What both kinds of training share: the loop, losses, settings, the run log, several processes."""
