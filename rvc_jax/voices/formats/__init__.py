"""The files that voices come in."""
