"""A voice behind a local HTTP address."""
