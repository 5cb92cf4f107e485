"""Pre-training by what is known of a whole case: its class, its classes, or a number."""
