"""How good something sounds, in numbers computed from arrays."""
