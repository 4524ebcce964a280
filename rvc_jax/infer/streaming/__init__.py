"""Conversion while it is spoken."""
