import numpy as np
import pytest
import soundfile

from rvc_jax.config import PrepareConfig
from rvc_jax.data.recordings import drop_reason, read_recording
from rvc_jax.data.sources import bundled_sample

CONFIG = PrepareConfig()
CLIP = bundled_sample("voice") / "ivr-concentrate.flac"


@pytest.fixture(scope="module")
def speech():
    return soundfile.read(CLIP, dtype="float32")


def read(path, wave, rate, subtype="FLOAT"):
    soundfile.write(path, wave, rate, subtype)
    return read_recording(path, 40000, CONFIG)


def test_reads_speech_at_the_wanted_rate_without_rumble(tmp_path, speech):
    wave, rate = speech
    rumble = 0.2 * np.sin(2 * np.pi * 10 * np.arange(len(wave)) / rate)
    clean = read_recording(CLIP, 40000, CONFIG)
    rumbling = read(tmp_path / "a.wav", wave + rumble, rate)
    assert clean.seconds == pytest.approx(len(wave) / rate, abs=1e-4)
    late = slice(20000, -2000)  # the filter has settled, and the resampler rings at the end
    assert np.abs(rumbling.wave[late] - clean.wave[late]).max() < 1e-3
    assert drop_reason(clean, 0, len(clean.wave), CONFIG) is None


def test_non_finite_samples_damage_their_own_place_alone(tmp_path, speech):
    wave, rate = speech
    wave = wave.copy()
    wave[2 * rate : 2 * rate + 5] = [np.nan, np.inf, -np.inf, np.nan, 0]
    recording = read(tmp_path / "a.wav", wave, rate)
    assert np.isfinite(recording.wave).all()
    clean = read_recording(CLIP, 40000, CONFIG)
    assert np.abs(recording.wave - clean.wave)[: int(1.9 * 40000)].max() < 1e-6
    for start, stop, reason in ((0, 1.999, None), (2.001, 4, None), (1, 2.01, "non-finite samples")):
        assert drop_reason(recording, int(start * 40000), int(stop * 40000), CONFIG) == reason


def test_sound_far_above_full_scale_is_dropped(tmp_path, speech):
    wave, rate = speech
    recording = read(tmp_path / "a.wav", np.concatenate([wave, wave * (3 / np.abs(wave).max())]), rate)
    middle = len(recording.wave) // 2
    assert drop_reason(recording, 0, middle, CONFIG) is None
    assert drop_reason(recording, middle, 2 * middle, CONFIG) == "too loud"
    assert np.isfinite(read(tmp_path / "b.wav", np.where(wave > 0.1, 3e38, wave), rate).wave).all()


def test_clipping_is_judged_on_the_original_samples(tmp_path, speech):
    wave, rate = speech
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(2 * rate) / rate))
    recording = read(tmp_path / "a.wav", square, rate, "PCM_16")
    assert drop_reason(recording, 0, len(recording.wave), CONFIG) == "clipped"
    hot = read(tmp_path / "b.wav", np.clip(wave * 20, -1, 1), rate, "PCM_16")
    assert 0.001 < hot.clipped.mean() < CONFIG.max_clipped
    assert drop_reason(hot, 0, len(hot.wave), CONFIG) is None


def test_short_and_silent_parts_are_dropped():
    recording = read_recording(bundled_sample("voice") / "ivr-message_self_destruct.flac", 40000, CONFIG)
    assert drop_reason(recording, 0, 15999, CONFIG) == "shorter than 0.4 s"
    assert drop_reason(recording, 0, 16000, CONFIG) is None
    loudness = np.cumsum(np.abs(recording.wave), dtype=np.float64)
    pause = int((loudness[20000:] - loudness[:-20000]).argmin()) + 1
    assert drop_reason(recording, pause, pause + 20000, CONFIG) == "silent"


def test_eight_channels_at_192_khz_become_mono(tmp_path, speech):
    wave, rate = speech
    recording = read(tmp_path / "a.wav", np.repeat(np.repeat(wave, 4)[:, None], 8, axis=1), 4 * rate, "PCM_24")
    clean = read_recording(CLIP, 40000, CONFIG)
    assert len(recording.wave) == len(clean.wave)
    late = slice(2000, -2000)
    assert np.corrcoef(recording.wave[late], clean.wave[late])[0, 1] > 0.99
