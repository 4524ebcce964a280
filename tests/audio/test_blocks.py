"""Work on blocks against the same work on the whole; waves on the disk."""

import resource

import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.audio import blocks as stream
from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.reading import load
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)
SPEECH = load(find_bundled_sample("voice") / "ivr-concentrate.flac", 16000)


def in_blocks(wave: np.ndarray, size: int) -> list[np.ndarray]:
    return [wave[start:stop] for start, stop in stream.block_ranges(len(wave), size)]


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 100, 4096, 10000]),
    blocks=st.integers(0, 6),
    more=st.integers(-2, 2),
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from([16000, 32000, 40000, 48000]),
    corner=st.sampled_from([0.0, 48.0, 200.0]),
)
def test_blocks_become_what_the_whole_becomes(size, blocks, more, from_rate, to_rate, corner):
    wave = SPEECH[: max(blocks * size + more, 0)]
    expected = high_pass(resample(wave, from_rate, to_rate), to_rate, corner)
    streamed = stream.high_pass_blocks(
        stream.resample_blocks(in_blocks(wave, size), from_rate, to_rate), to_rate, corner
    )
    result = np.concatenate([np.zeros(0, np.float32), *streamed])
    assert result.shape == expected.shape and result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6 * np.abs(expected).max(initial=0))


def test_digital_silence_after_speech_leaves_no_denormal_numbers():
    blocks = [SPEECH, *[np.zeros(160000, np.float32)] * 4]
    last = list(stream.high_pass_blocks(blocks, 16000, 48.0))[-1]
    assert not last.any()


@pytest.mark.parametrize(
    ("samples", "on_disk"), [(0, False), (1, False), (32000, False), (32001, True)]
)
def test_long_waves_are_stored_on_disk(tmp_path, monkeypatch, samples, on_disk):
    monkeypatch.setattr(stream, "IN_MEMORY_SECONDS", 2)
    wave = stream.collect_blocks(in_blocks(SPEECH[:samples], 5000), 16000, tmp_path)
    assert isinstance(wave, np.memmap) == on_disk
    np.testing.assert_array_equal(wave, SPEECH[:samples])
    assert not list(tmp_path.iterdir())  # nameless: nothing is left behind, even by a kill
    stream.write_range(wave, 0, -SPEECH[:samples])
    np.testing.assert_array_equal(stream.read_range(wave, 0, samples), -SPEECH[:samples])


def test_scratch_without_room(tmp_path, monkeypatch):
    """A limit on the size of files stands in for a full disk: the same refusal, in the middle of a
    write."""
    monkeypatch.setattr(stream, "IN_MEMORY_SECONDS", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(
            UserError, match="cannot hold a recording .*: File too large; .*TMPDIR"
        ):
            stream.collect_blocks(in_blocks(SPEECH, 5000), 16000, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(UserError, match="No such file or directory"):
        stream.collect_blocks(in_blocks(SPEECH, 5000), 16000, tmp_path / "gone")


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(0, 90), st.integers(0, 90))
def test_reflected_positions_are_those_of_numpys_pad(length, before, behind):
    positions = np.arange(-before, length + behind)
    expected = np.pad(np.arange(length), (before, behind), mode="reflect")
    np.testing.assert_array_equal(stream.reflect_positions(positions, length), expected)
    in_jax = stream.reflect_positions(jnp.asarray(positions), jnp.asarray([[length]]))
    np.testing.assert_array_equal(in_jax[0], expected)


def test_reading_a_wave_on_disk_holds_no_memory(tmp_path):
    if not hasattr(psutil.Process().memory_info(), "shared"):
        pytest.skip("only Linux reports how much of a process is mapped files")
    seconds = 240
    noise = np.random.default_rng(0).normal(size=48000).astype(np.float32)
    wave = stream.collect_blocks((noise for _ in range(seconds)), 48000, tmp_path)

    def mapped() -> float:
        return psutil.Process().memory_info().shared / wave.nbytes

    before = mapped()
    total = sum(
        float(stream.read_range(wave, start, stop).sum())
        for start, stop in stream.block_ranges(len(wave))
    )
    assert total == pytest.approx(seconds * float(noise.sum()), rel=1e-2)
    assert mapped() - before < 0.1
    assert float(wave.sum()) and mapped() - before > 0.9  # what the array itself would hold
