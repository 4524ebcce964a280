"""A run as a folder or a URL has it."""
