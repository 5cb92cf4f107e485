"""Training: what all trainers share, from the settings in their names to safe checkpoints and the record of a run."""
