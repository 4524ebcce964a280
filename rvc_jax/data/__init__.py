"""From recordings to a dataset, and from a dataset to arrays."""
