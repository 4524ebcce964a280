"""harvest, dio and pm: known signals, real speech, edges, and what happens without their
packages."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from rows import cut_rows

from rvc_jax.errors import UserError
from rvc_jax.features.f0 import classical, load_pitch_extractor
from rvc_jax.features.f0.classical import ClassicalPitch

PACKAGES = {"harvest": "pyworld", "dio": "pyworld", "pm": "parselmouth"}


def make(name: str) -> ClassicalPitch:
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed (the extra `pitch`)")
    return ClassicalPitch(name)


@pytest.fixture(params=list(PACKAGES), scope="module")
def extractor(request) -> ClassicalPitch:
    return make(request.param)


def cents(a, b):
    return 1200 * np.abs(np.log2(a / b))


def test_follows_a_known_glide(extractor):
    """A voice-like buzz gliding from 100 to 300 Hz, with silence behind it."""
    f0 = 100 * 3 ** (np.arange(64000) / 64000)
    phase = 2 * np.pi * np.cumsum(f0) / 16000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.2
    pitch = extractor(np.concatenate([buzz, np.zeros(16000)]).astype(np.float32)[None])
    assert pitch.shape == (1, 500) and pitch.dtype == np.float32
    inside = slice(10, 390)
    voiced = pitch[0, inside] > 0
    assert voiced.mean() > 0.98
    assert (cents(pitch[0, inside][voiced], f0[::160][inside][voiced]) < 20).mean() > 0.95
    assert not pitch[0, 410:].any()


def test_agrees_with_swift_on_real_speech(extractor, speech_windows):
    speech = speech_windows[[0, 1, 4, 8]]
    pitch = extractor(speech)
    swift = load_pitch_extractor("swift")(speech)
    both = (pitch > 0) & (swift > 0)
    assert both.mean() > 0.3
    assert (cents(pitch[both], swift[both]) < 50).mean() > 0.9


def test_equals_the_package_with_rvcs_settings(speech_windows):
    """The frames of one row are those of WORLD's own functions, up to the one at the very end."""
    make("harvest")
    world = classical.load_world()
    samples = speech_windows[3].astype(np.float64)
    for name in ("harvest", "dio"):
        coarse, times = getattr(world, name)(
            samples, 16000, f0_floor=50.0, f0_ceil=1100.0, frame_period=10
        )
        np.testing.assert_allclose(times[:336], np.arange(336) / 100)
        expected = world.stonemask(samples, coarse, times, 16000)
        assert expected.shape == (337,) and (expected > 0).mean() > 0.2
        np.testing.assert_array_equal(
            ClassicalPitch(name)(speech_windows[3:4])[0], expected[:336].astype(np.float32)
        )


def test_praats_frames_are_centered_as_in_rvc(speech_windows):
    parselmouth = pytest.importorskip("parselmouth")
    sound = parselmouth.Sound(speech_windows[0].astype(np.float64), 16000)
    found = sound.to_pitch_ac(
        time_step=0.01, voicing_threshold=0.6, pitch_floor=50, pitch_ceiling=1100
    )
    ours = ClassicalPitch("pm")(speech_windows[:1])[0]
    times = found.xs()
    first = np.flatnonzero(ours)[0] - np.flatnonzero(found.selected_array["frequency"])[0]
    np.testing.assert_allclose(
        ours[first : first + len(times)], found.selected_array["frequency"], rtol=1e-6
    )
    assert abs(first * 0.01 - times[0]) < 0.0051


def test_rows_of_a_batch_give_what_they_give_alone(extractor, speech_windows):
    lengths = np.array([53760, 40011, 1279, 400, 159])
    batch, alone = cut_rows(speech_windows, lengths)
    behind = np.where(np.arange(53760) < lengths[:, None], batch, 0.5).astype(np.float32)
    together = extractor(behind, lengths)
    assert (together[:2] > 0).mean() > 0.2
    for row, length, audio in zip(together, lengths, alone, strict=True):
        expected = extractor(audio, np.array([length]))[0]
        np.testing.assert_array_equal(row[: length // 160], expected[: length // 160])
        assert not row[length // 160 :].any()


@pytest.mark.parametrize("samples", [320, 640, 960, 1280, 16000])
def test_silence_constants_and_noise_are_finite(extractor, samples):
    noise = np.random.default_rng(0).normal(size=samples) * 0.1
    pitch = extractor(
        np.stack([np.zeros(samples), np.full(samples, 0.5), noise]).astype(np.float32)
    )
    assert pitch.shape == (3, samples // 160) and np.isfinite(pitch).all()
    assert not pitch[0].any() and (pitch >= 0).all()


def test_refuses_other_shapes_and_names(extractor):
    for shape in [(16000,), (1, 16001)]:
        with pytest.raises(ValueError, match="multiple of 320"):
            extractor(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="no classical pitch method: 'yin'"):
        ClassicalPitch("yin")


def test_the_factory_and_fingerprints(extractor):
    assert load_pitch_extractor(extractor.name).fingerprint == extractor.fingerprint
    assert len(extractor.fingerprint) == 64


@pytest.mark.parametrize("name", ["harvest", "dio", "pm"])
def test_a_missing_package_is_one_clear_line(name, monkeypatch):
    classical.load_world.cache_clear()
    monkeypatch.delitem(sys.modules, "pyworld.pyworld", raising=False)
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs the package .*: pip install .*\[pitch\]"'):
        ClassicalPitch(name)


def test_works_without_pkg_resources_and_beside_the_whole_package():
    """setuptools 81 has dropped what pyworld imports; a later `import pyworld` must still find its
    extension."""
    make("harvest")
    code = """
import sys
sys.modules["pkg_resources"] = None
import numpy as np
from rvc_jax.features.f0.classical import ClassicalPitch
ClassicalPitch("harvest")(np.zeros((1, 3200), np.float32))
import types
no_version = types.SimpleNamespace(version="")
sys.modules["pkg_resources"] = types.SimpleNamespace(get_distribution=lambda name: no_version)
import pyworld
assert pyworld.harvest is sys.modules["pyworld.pyworld"].harvest
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
