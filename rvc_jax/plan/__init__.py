"""What a training run will take on a named TPU, by that TPU's own compiler, on any machine."""
