"""Conversion: the same words and melody in the voice of a model."""
