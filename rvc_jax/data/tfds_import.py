"""Import TensorFlow Datasets off the accelerator, off the network and without its log lines."""

from __future__ import annotations

import contextlib
import logging
import os
from types import ModuleType


def import_tfds() -> ModuleType:
    """Return the module `tensorflow_datasets`.

    The import takes seconds, so call this where the module is needed.
    """
    # Before the import: TensorFlow reads both when it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(
        "TF_ENABLE_ONEDNN_OPTS", "0"
    )  # it logs a line, and computes nothing here
    import tensorflow
    import tensorflow_datasets

    for kind in ("GPU", "TPU"):
        # Too late if other code of the process has used TensorFlow already.
        with contextlib.suppress(RuntimeError, ValueError):
            tensorflow.config.set_visible_devices([], kind)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow_datasets
