"""The dataset `voice` for TensorFlow Datasets."""
