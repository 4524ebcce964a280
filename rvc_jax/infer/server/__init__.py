"""A voice behind an HTTP address."""
