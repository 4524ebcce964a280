"""With $MICRO_FOR_NANO every Python of the notebook trains the smallest network in the place of
nano."""

import os

if os.environ.get("MICRO_FOR_NANO"):
    from micro import MICRO

    from rvc_jax.config import PRESETS

    PRESETS["nano"] = MICRO
