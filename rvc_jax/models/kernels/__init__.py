"""How the networks are computed on a chip."""
