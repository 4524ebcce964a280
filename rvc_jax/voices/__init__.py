"""Files of other systems, in and out: PyTorch models, retrieval indices, archives."""
