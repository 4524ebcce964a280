"""The training engine: state, losses, step, loop, evaluation, checkpoints."""
