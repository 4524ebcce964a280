"""The bundled weights: size, types, licenses, and that they are what the public models hold."""

import dataclasses
import json
import os
from importlib.util import find_spec
from pathlib import Path

import convert_script
import numpy as np
import pytest

from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.weights import bundled, safetensors_file


def test_the_package_stays_small_and_has_its_licenses():
    base = list(bundled.FOLDER.glob("base_*"))
    extractors = set(bundled.FOLDER.iterdir()) - set(base)
    assert sum(path.stat().st_size for path in extractors) < 11_000_000
    assert sum(path.stat().st_size for path in base) < 20_000_000
    assert "OpenAI" in (bundled.FOLDER / "LICENSE-whisper.txt").read_text()
    assert "Copyright" in (bundled.FOLDER / "LICENSE-swift-f0.txt").read_text()
    assert "Silero" in (bundled.FOLDER / "LICENSE-silero-vad.txt").read_text()


def test_the_base_voice_fits_its_preset():
    preset = PRESETS["small"]
    generator = dataclasses.replace(preset.generator, speakers=1)
    networks = {
        "generator": build_synthesizer(generator, preset.audio),
        "discriminator": Network(Discriminator(preset.discriminator)),
    }
    for name, network in networks.items():
        path = bundled.find_base("small", name)
        assert path is not None
        arrays = safetensors_file.read(path)
        assert {key: array.shape for key, array in arrays.items()} == network.public_shapes
        assert all(a.dtype == np.float16 and np.isfinite(a).all() for a in arrays.values())


def test_the_base_voice_has_its_curve_and_card():
    card = (bundled.FOLDER / "base_small.md").read_text()
    curve = json.loads((bundled.FOLDER / "base_small_curve.json").read_text())
    best = min(point.get("averaged", point["raw"]) for point in curve)
    assert f"| hold-out log-mel error | {best:.3f} " in card
    steps = [point["step"] for point in curve]
    assert steps == sorted(set(steps)) and steps[0] == 0
    for words in ("## License", "## Limits", "CC-BY-SA-3.0", "Kokoro", "72 speakers"):
        assert words in card


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
