"""Checkpoints: from the published weight files to a proven backbone."""
