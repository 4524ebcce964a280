"""How good something sounds: measurements on arrays."""
