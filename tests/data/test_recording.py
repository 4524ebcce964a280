"""Recordings as clean sound: block by block against the whole; damage; slices."""

import dataclasses
import sys
import types

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.audio import blocks as stream
from rvc_jax.audio import reading
from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.loudness import integrated_loudness, normalize_slice
from rvc_jax.audio.reading import AudioError, decode, load
from rvc_jax.config import PrepareConfig
from rvc_jax.data.recording import find_drop_reason, find_slices, open_recording, read_slice
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

CONFIG = PrepareConfig()
RATE = 40000
VOICE = sorted(find_bundled_sample("voice").glob("*.flac"))
CLIP = find_bundled_sample("voice") / "ivr-concentrate.flac"


@pytest.fixture(scope="module")
def speech():
    return soundfile.read(CLIP, dtype="float32")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def read(tmp_path, scratch):
    """Write a wave as a file and open it: read(wave, rate, "FLOAT", **settings)."""

    def write_and_open(wave, rate, subtype="FLOAT", **options):
        path = tmp_path / "read.wav"
        soundfile.write(path, wave, rate, subtype)
        return open_recording(path, RATE, dataclasses.replace(CONFIG, **options), scratch)

    return write_and_open


def in_one_go(path, rate, start=0.0, stop=None):
    """The reference: every step takes the whole file at once."""
    channels, file_rate = decode(path)
    cut = channels[
        :, round(start * file_rate) : None if stop is None else round(stop * file_rate)
    ]
    return high_pass(resample(cut.mean(axis=0), file_rate, rate), rate)


def reasons(recording, **options):
    return [
        reason
        for _, _, reason in find_slices(recording, dataclasses.replace(CONFIG, **options))
    ]


@pytest.mark.parametrize("rate", [16000, 32000, 40000, 48000])
def test_a_file_at_the_wanted_rate(scratch, rate):
    recording = open_recording(CLIP, rate, CONFIG, scratch)
    np.testing.assert_array_equal(recording.wave, in_one_go(CLIP, rate))
    assert recording.wave.dtype == np.float32 and recording.notes == () and recording.gain == 1
    assert recording.seconds == pytest.approx(soundfile.info(CLIP).duration, abs=1e-4)
    assert (
        recording.broken.shape
        == recording.clipped.shape
        == (int(np.ceil(recording.seconds * 100)),)
    )
    assert not recording.broken.any() and not recording.clipped.any()
    assert find_drop_reason(recording, 0, len(recording.wave), CONFIG) is None


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 30000),
    block=st.sampled_from([1500, 4096, 30000, 10**6]),
    channels=st.sampled_from([1, 2, 5]),
    file_rate=st.sampled_from([8000, 11025, 22050, 44100, 96000]),
    rate=st.sampled_from([16000, 40000, 48000]),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    on_disk=st.booleans(),
)
def test_blocks_give_what_the_whole_gives(
    tmp_path_factory, scratch, samples, block, channels, file_rate, rate, cut, on_disk
):
    path = tmp_path_factory.mktemp("blocks") / "a.wav"
    wave = np.stack(
        [np.roll(load(CLIP, 16000), 997 * channel)[:samples] for channel in range(channels)],
        axis=1,
    )
    soundfile.write(path, wave, file_rate, "FLOAT")
    start, stop = sorted(round(share * samples) / file_rate for share in cut)
    if stop == start:
        start = 0.0
        stop = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK_VALUES", block)
        patch.setattr(reading, "_BLOCK", 500)
        patch.setattr(stream, "IN_MEMORY_SECONDS", 0 if on_disk else 120)
        recording = open_recording(path, rate, CONFIG, scratch, start, stop)
    expected = in_one_go(path, rate, start, stop)
    assert recording.wave.shape == expected.shape
    np.testing.assert_allclose(
        recording.wave, expected, atol=1e-6 * np.abs(expected).max(initial=0)
    )
    assert isinstance(recording.wave, np.memmap) == (on_disk and len(expected) > 0)
    assert not list(scratch.iterdir())


def test_rumble_is_removed(read, speech):
    wave, rate = speech
    rumble = 0.2 * np.sin(2 * np.pi * 10 * np.arange(len(wave)) / rate)
    clean = read(wave, rate)
    rumbling = read(wave + rumble, rate)
    late = slice(20000, -2000)  # the filter has settled, and the resampler rings at the end
    assert np.abs(rumbling.wave[late] - clean.wave[late]).max() < 1e-3
    assert np.abs(read(wave + rumble, rate, high_pass_hz=0.0).wave[late]).max() > 0.2


def test_a_cut_and_its_gain(scratch):
    cut = open_recording(CLIP, RATE, CONFIG, scratch, 1.25, 3.5, gain_db=-6.0)
    assert len(cut.wave) == 2.25 * RATE and len(cut.broken) == 225
    np.testing.assert_allclose(cut.wave, in_one_go(CLIP, RATE, 1.25, 3.5) * 10**-0.3, atol=1e-6)
    seconds = soundfile.info(CLIP).duration
    with pytest.raises(
        AudioError, match=f"^{seconds:.1f} s long: it cannot be cut from 1 s to 7 s$"
    ):
        open_recording(CLIP, RATE, CONFIG, scratch, 1.0, 7.0)


def test_what_cannot_be_opened(tmp_path, scratch):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    for path, reason in (
        (tmp_path / "a.wav", "not audio"),
        (tmp_path / "gone.wav", "No such file"),
    ):
        with pytest.raises(AudioError, match=reason):
            open_recording(path, RATE, CONFIG, scratch)
    with pytest.raises(
        UserError, match="a high-pass filter of 20000 Hz is impossible at 40000 Hz"
    ):
        open_recording(CLIP, RATE, dataclasses.replace(CONFIG, high_pass_hz=20000.0), scratch)


def test_non_finite_samples_damage_their_own_place_alone(read, speech):
    wave, rate = speech
    damaged = wave.copy()
    damaged[2 * rate : 2 * rate + 5] = [np.nan, np.inf, -np.inf, np.nan, 0]
    recording = read(damaged, rate)
    assert np.isfinite(recording.wave).all()
    assert np.abs(recording.wave - read(wave, rate).wave)[: int(1.9 * RATE)].max() < 1e-6
    assert np.flatnonzero(recording.broken).tolist() == [200]
    for start, stop, reason in (
        (0, 2, None),
        (2.01, 4, None),
        (1, 2.001, "non-finite samples"),
    ):
        assert (
            find_drop_reason(recording, round(start * RATE), round(stop * RATE), CONFIG)
            == reason
        )


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_marks_are_on_the_time_line_of_the_original(read, monkeypatch, rate):
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 3000)
    random = np.random.default_rng(0)
    wave = random.uniform(-0.5, 0.5, (3 * rate + 7, 2)).astype(np.float32)
    bad, full = np.sort(random.choice(len(wave), (2, 60), replace=False))
    wave[bad, random.integers(0, 2, 60)] = np.nan
    wave[full, random.integers(0, 2, 60)] = -1
    recording = read(wave, rate)
    times = np.arange(len(wave)) * 100 // rate  # of every sample, in blocks of 10 ms
    assert np.flatnonzero(recording.broken).tolist() == sorted(
        {int(times[sample]) for sample in bad}
    )
    for mark in range(len(recording.clipped)):
        share = np.isin(np.flatnonzero(times == mark), full).mean()
        assert recording.clipped[mark] == pytest.approx(share, rel=1e-6)


def test_an_over_loud_slice_is_dropped_alone(read, speech):
    wave, rate = speech
    loud = wave[: 3 * rate] * (3 / np.abs(wave).max())
    recording = read(np.concatenate([wave, loud, wave]), rate)
    for slicing in ("auto", "simple", "skip"):
        found = find_slices(recording, dataclasses.replace(CONFIG, slicing=slicing))
        dropped = [(start / RATE, stop / RATE) for start, stop, reason in found if reason]
        assert {reason for *_, reason in found} == {None, "too loud"}
        assert 0 < len(dropped) <= 4 and all(
            start < 8.8 and stop > 5.6 for start, stop in dropped
        )
    assert np.isfinite(read(np.where(wave > 0.1, 3e38, wave), rate).wave).all()


def test_normalising_a_file_hides_no_damage(read, speech):
    wave, rate = speech
    burst = wave * (1.5 / np.abs(wave).max())
    burst[3 * rate : 3 * rate + 50] = 3.0
    for normalization in ("pre", "loudness"):
        recording = read(burst, rate, normalization=normalization)
        assert (
            np.abs(recording.wave).max() < CONFIG.max_peak
        )  # it has been turned down with the rest
        assert "too loud" in reasons(recording, normalization=normalization)


def test_clipping_is_judged_on_the_original_samples(read, speech):
    wave, rate = speech
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(2 * rate) / rate))
    recording = read(square, rate, "PCM_16")
    assert find_drop_reason(recording, 0, len(recording.wave), CONFIG) == "clipped"
    hot = read(np.clip(wave * 20, -1, 1), rate, "PCM_16")
    assert 0.001 < hot.clipped.mean() < CONFIG.max_clipped
    assert find_drop_reason(hot, 0, len(hot.wave), CONFIG) is None


def test_short_and_silent_slices_are_dropped(scratch):
    path = find_bundled_sample("voice") / "ivr-message_self_destruct.flac"
    recording = open_recording(path, RATE, CONFIG, scratch)
    assert find_drop_reason(recording, 0, 15999, CONFIG) == "shorter than 0.4 s"
    assert find_drop_reason(recording, 0, 16000, CONFIG) is None
    loudness = np.cumsum(np.abs(recording.wave), dtype=np.float64)
    pause = int((loudness[20000:] - loudness[:-20000]).argmin()) + 1
    assert find_drop_reason(recording, pause, pause + 20000, CONFIG) == "silent"


def test_eight_channels_at_192_khz_become_mono(read, speech):
    wave, rate = speech
    recording = read(np.repeat(np.repeat(wave, 4)[:, None], 8, axis=1), 4 * rate, "PCM_24")
    clean = read(wave, rate)
    assert len(recording.wave) == len(clean.wave)
    late = slice(2000, -2000)
    assert np.corrcoef(recording.wave[late], clean.wave[late])[0, 1] > 0.99


@pytest.mark.parametrize("slicing", ["auto", "simple", "skip"])
def test_files_without_speech_have_a_reason_and_no_nan(read, slicing):
    for seconds, reason in ((9, "silent"), (0.1, "shorter than 0.4 s")):
        recording = read(np.zeros(int(seconds * 16000)), 16000)
        found = find_slices(recording, dataclasses.replace(CONFIG, slicing=slicing))
        assert {why for *_, why in found} <= {reason, "silent", "shorter than 0.4 s"} and found[
            -1
        ][1] == RATE * seconds
        assert all(
            np.isfinite(read_slice(recording, start, stop, CONFIG)).all()
            for start, stop, _ in found
        )
    one_sample = read(np.zeros(1), 192000)
    assert len(one_sample.wave) <= 1 and all(reasons(one_sample, slicing=slicing))


@pytest.mark.parametrize("slicing", ["auto", "simple", "skip"])
def test_slices_are_the_recordings_own_and_lose_no_speech(read, slicing):
    """24 s of speech with a pause, some of it silent: every loud moment is in some slice."""
    wave = np.concatenate(
        [*[load(path, 16000) for path in VOICE[:4]], np.zeros(32000), load(CLIP, 16000)]
    )
    recording = read(wave, 16000)
    config = dataclasses.replace(CONFIG, slicing=slicing)
    found = find_slices(recording, config)
    assert found == find_slices(
        recording, dataclasses.replace(config, holdout=0.3, preset="32k", feature_batch=2)
    )
    assert found == sorted(found, key=lambda item: item[:2]) and {
        reason for *_, reason in found
    } <= {None, "silent"}
    covered = np.zeros(len(recording.wave), bool)
    for start, stop, reason in found:
        covered[start:stop] |= reason is None
        assert stop - start <= 3.36 * RATE
    assert not (np.abs(recording.wave) > 0.02)[~covered].any()
    starts = np.diff([start for start, *_ in found])
    assert (starts == round(2.7 * RATE)).sum() >= len(found) // 2


def test_thirty_one_clips_of_39_seconds_give_all_twenty_minutes(tmp_path, scratch):
    """Nothing is lost of files that were cut before."""
    config = dataclasses.replace(CONFIG, slicing="skip")
    speech = np.concatenate([load(path, 16000) for path in VOICE])
    seconds = 0.0
    for number in range(31):
        clip = np.resize(np.roll(speech, -16000 * 5 * number), 39 * 16000)
        soundfile.write(tmp_path / "clip.flac", clip, 16000)
        recording = open_recording(tmp_path / "clip.flac", 16000, config, scratch)
        covered = np.zeros(len(recording.wave), bool)
        for start, stop, reason in find_slices(recording, config):
            covered[start:stop] |= reason is None
        seconds += covered.sum() / 16000
    assert seconds == 31 * 39


def test_finished_slices_are_normalised_as_asked(scratch):
    recording = open_recording(CLIP, RATE, CONFIG, scratch)
    part = recording.wave[1000:50000].copy()
    np.testing.assert_array_equal(
        read_slice(recording, 1000, 50000, CONFIG), normalize_slice(part, CONFIG)
    )
    for normalization in ("none", "pre", "loudness"):
        config = dataclasses.replace(CONFIG, normalization=normalization)
        finished = read_slice(recording, 1000, 50000, config)
        np.testing.assert_array_equal(finished, part)
        assert finished.dtype == np.float32


@pytest.mark.parametrize("on_disk", [False, True])
def test_whole_files_are_normalised_as_asked(read, monkeypatch, speech, on_disk):
    monkeypatch.setattr(stream, "IN_MEMORY_SECONDS", 0 if on_disk else 120)
    plain = read(*speech)
    full = read(*speech, normalization="pre")
    assert np.abs(full.wave).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(full.wave, plain.wave * full.gain, rtol=1e-6)
    loud = read(*speech, normalization="loudness", loudness_lufs=-28.0)
    assert (
        integrated_loudness([loud.wave], RATE) == pytest.approx(-28, abs=0.02)
        and loud.notes == ()
    )
    (note,) = read(*speech, normalization="loudness", loudness_lufs=-5.0).notes
    assert "instead of -5" in note


def test_cleaning(read, speech):
    pytest.importorskip("noisereduce")
    wave, rate = speech
    noisy = wave + 0.01 * np.random.default_rng(0).normal(size=len(wave))
    clean = read(wave, rate).wave
    raw = read(noisy, rate).wave
    cleaned = read(noisy, rate, clean_audio=True).wave
    assert (cleaned - clean).std() < 0.6 * (raw - clean).std()


def test_the_voice_is_taken_out_of_stereo_music(read, monkeypatch, speech):
    monkeypatch.setattr(
        "rvc_jax.data.recording.isolate_vocals",
        lambda blocks, *_: (block[:1] for block in blocks),
    )
    wave, rate = speech
    music = np.sign(np.sin(np.arange(len(wave)) / 7)) * 0.9995
    recording = read(np.stack([wave, music], axis=1), rate, separate_vocals=True)
    np.testing.assert_array_equal(recording.wave, read(wave, rate).wave)
    assert recording.clipped.mean() > 0.9  # the original's damage, not the stem's


def test_slices_without_speech_are_dropped(read, monkeypatch):
    """With a stand-in for the detector: speech is where the level is above a threshold."""
    lengths = []

    def speech_probability_in_slice(audio16k):
        lengths.append(len(audio16k))
        frames = np.resize(audio16k, (-(-len(audio16k) // 512), 512))
        return (np.abs(frames).max(axis=1) > 0.1).astype(np.float32) * 0.8

    detector = types.ModuleType("rvc_jax.features.vad")
    detector.speech_probability_in_slice = speech_probability_in_slice
    monkeypatch.setitem(sys.modules, "rvc_jax.features.vad", detector)
    noise = np.random.default_rng(0).normal(size=12 * 16000) * np.repeat(
        [0.05, 0.015], 6 * 16000
    )
    recording = read(noise, 16000)
    options = {"slicing": "simple", "vad": True, "overlap_len": 0.0}
    assert reasons(recording, **options) == [None, None, "no speech", "no speech"]
    assert lengths == [48000] * 4
    assert set(reasons(recording, **options, vad_threshold=0.9)) == {"no speech"}
    assert set(reasons(recording, **options, vad_min_speech=0.0)) == {None}
    assert set(reasons(recording, slicing="simple")) == {None}


def test_the_detector_keeps_speech_and_drops_noise(scratch, read):
    options = {"slicing": "simple", "vad": True}
    assert set(reasons(open_recording(CLIP, RATE, CONFIG, scratch), **options)) == {None}
    noise = np.random.default_rng(0).normal(size=6 * 16000) * 0.05
    assert set(reasons(read(noise, 16000), **options)) == {"no speech"}


@pytest.mark.parametrize("decibels", [-20, -40, -55])
def test_a_quiet_recording_has_the_slices_of_a_loud_one(tmp_path, scratch, decibels):
    wave, rate = decode(CLIP)
    wave = wave[0] / np.abs(wave[0]).max() * np.float32(0.1)
    found = []
    for gain in (1.0, 10 ** (decibels / 20)):
        soundfile.write(tmp_path / "a.wav", wave * gain, rate, "FLOAT")
        recording = open_recording(tmp_path / "a.wav", RATE, CONFIG, scratch)
        found.append(find_slices(recording, CONFIG))
    assert all(reason is None for *_, reason in found[1])
    assert len(found[0]) == len(found[1])
    for loud, quiet in zip(*found, strict=True):
        assert np.abs(np.subtract(loud[:2], quiet[:2])).max() < 0.3 * RATE


def test_quiet_noise_stays_silent(tmp_path, scratch):
    noise = np.random.default_rng(0).normal(0, 1e-3, 80000)
    soundfile.write(tmp_path / "a.wav", noise, 16000, "FLOAT")
    recording = open_recording(tmp_path / "a.wav", RATE, CONFIG, scratch)
    assert find_slices(recording, CONFIG) == [(0, len(recording.wave), "silent")]


def test_an_offset_is_noted(tmp_path, scratch):
    wave, rate = decode(CLIP)
    soundfile.write(tmp_path / "a.wav", 0.3 * wave[0] + 0.4, rate)
    recording = open_recording(tmp_path / "a.wav", RATE, CONFIG, scratch)
    assert "a constant offset (DC) of 40% of full scale was removed" in recording.notes
    assert np.abs(recording.wave).max() < 0.32
