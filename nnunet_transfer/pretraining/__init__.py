"""Pre-training: heads, masks, losses, class tables and trainers."""
