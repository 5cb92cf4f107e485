"""Scores of a prediction against a reference: overlap, surface and lesion-wise metrics; no torch."""
