"""Synthetic images: from templates and photos that ship with nilearn, scikit-image and scikit-learn."""
