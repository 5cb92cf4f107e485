"""Scores of one prediction against one reference: overlap, surface and lesion-wise metrics; no torch."""
