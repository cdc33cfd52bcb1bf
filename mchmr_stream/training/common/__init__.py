"""Parts common to both kinds of training: loop, losses, settings, run log, distributed training."""
