"""Pre-training on a property of whole cases: a class, several classes, or a number."""
