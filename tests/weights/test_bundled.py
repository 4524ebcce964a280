"""The bundled weights: size, types, licenses, and that they are what the public models hold."""

import os
from importlib.util import find_spec
from pathlib import Path

import convert_script
import numpy as np
import pytest

from rvc_jax.weights import bundled


def test_the_package_stays_small_and_has_its_licenses():
    files = list(bundled.FOLDER.iterdir())
    assert sum(path.stat().st_size for path in files) < 11_000_000
    assert "OpenAI" in (bundled.FOLDER / "LICENSE-whisper.txt").read_text()
    assert "Copyright" in (bundled.FOLDER / "LICENSE-swift-f0.txt").read_text()
    assert "Silero" in (bundled.FOLDER / "LICENSE-silero-vad.txt").read_text()


@pytest.mark.parametrize("name", ["swift_f0", "whisper_tiny", "silero_vad"])
def test_arrays_are_finite_float32(name):
    arrays = bundled.load(name)
    assert arrays and all(
        a.dtype == np.float32 and np.isfinite(a).all() for a in arrays.values()
    )
    assert not any(key.endswith((bundled.SCALE, bundled.ZERO_POINT)) for key in arrays)


def test_conversion_gives_the_bundled_files(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("swift_f0")
    convert = convert_script.load()
    sources = {"swift_f0": Path(find_spec("swift_f0").origin).with_name("model.onnx")}
    if path := os.environ.get("RVC_JAX_WHISPER_ONNX"):
        sources["whisper_tiny"] = Path(path)
    converters = {"swift_f0": convert.swift_f0, "whisper_tiny": convert.whisper}
    for name, source in sources.items():
        convert.write_npz(tmp_path / "made.npz", converters[name](source))
        with (
            np.load(tmp_path / "made.npz") as made,
            np.load(bundled.FOLDER / f"{name}.npz") as stored,
        ):
            assert set(made) == set(stored)
            for key in stored:
                np.testing.assert_array_equal(made[key], stored[key])
