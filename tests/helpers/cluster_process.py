"""A process, of several or alone, that trains a tiny voice: `DATASET RUN OPTIONS CLUSTER`, the last
two as JSON.

With the option `is_split`, its step is four programs. It prints every step and the result as a JSON
object per line; a user's mistake ends it with 2.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micro import MICRO

from rvc_jax.config import ClusterConfig
from rvc_jax.errors import UserError
from rvc_jax.models.kernels.options import KERNEL_CONFIGS
from rvc_jax.storage.environment import silence_libraries
from rvc_jax.train.distributed import join, leave
from rvc_jax.train.loop import train


class Printer:
    """Prints every message and step as a JSON object."""

    def message(self, text: str) -> None:
        print(json.dumps({"message": text}), flush=True)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        print(json.dumps({"step": done}), flush=True)


dataset, run, options, cluster = sys.argv[1:]
settings = json.loads(options)
if settings.pop("is_split", False):
    KERNEL_CONFIGS["cpu"] = dataclasses.replace(KERNEL_CONFIGS["cpu"], split_step_from=1)
silence_libraries()
try:
    join(ClusterConfig(**json.loads(cluster)))
    result = train(Path(dataset), Path(run), MICRO, settings, Printer())
    leave()
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
print(json.dumps(dataclasses.asdict(result), default=str), flush=True)
