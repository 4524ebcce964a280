"""What a training run takes on a TPU, estimated by the TPU's own compiler on any machine."""
