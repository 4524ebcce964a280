"""TensorFlow Datasets, kept off the accelerator, off the network and off the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
from types import ModuleType


def import_tfds() -> ModuleType:
    """The module `tensorflow_datasets`; it takes seconds, so import it where it is needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(
        "TF_ENABLE_ONEDNN_OPTS", "0"
    )  # announces itself otherwise, and nothing is computed here
    import tensorflow
    import tensorflow_datasets

    for kind in ("GPU", "TPU"):
        with contextlib.suppress(
            RuntimeError, ValueError
        ):  # too late: somebody else set TensorFlow up
            tensorflow.config.set_visible_devices([], kind)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow_datasets
