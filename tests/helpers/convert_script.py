"""The script data/bundled_weights/convert.py as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_SCRIPT = Path(__file__).parents[2] / "data" / "bundled_weights" / "convert.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_bundled_weights", _SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
