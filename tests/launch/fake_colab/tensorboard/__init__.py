"""Stands in for TensorBoard."""
