"""Rank sources for a target: scores on its training cases, without fine-tuning."""
