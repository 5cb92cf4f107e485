"""Which source to start from: scores of every source on a target's training cases, before any fine-tuning."""
