"""Pre-training: heads, masks, losses and class tables, and the trainers built of them."""
