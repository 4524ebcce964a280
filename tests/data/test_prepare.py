"""Preparation from recordings to a dataset."""

import itertools
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import soxr
from reporting import KeepingReporter

from rvc_jax.audio.filters import high_pass
from rvc_jax.config import PrepareConfig
from rvc_jax.data.dataset import Drop, load_dataset, read_info
from rvc_jax.data.prepare import prepare
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.data.split import split_slices
from rvc_jax.errors import UserError
from rvc_jax.features.content import load_content_encoder
from rvc_jax.features.f0 import load_pitch_extractor
from rvc_jax.storage.locks import lock_output

NANO = PrepareConfig(preset="nano")
HOP = 160
RATE = 16000


@pytest.fixture(scope="module")
def dataset(sample_dataset):
    return load_dataset(sample_dataset)


@pytest.fixture(scope="module")
def speech():
    """13 seconds: (samples, rate)."""
    return soundfile.read(
        find_bundled_sample("voice") / "zrtp-enroll_confirmed.flac", dtype="float32"
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory, speech):
    """A file of one slice, the quickest to prepare."""
    wave, rate = speech
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, wave[rate : 3 * rate], rate)
    return path


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def recording(path):
    """Return what slices are cut from: a recording at 16 kHz, high-passed."""
    wave, rate = soundfile.read(path, dtype="float32")
    return high_pass(soxr.resample(wave, rate, RATE, "VHQ"), RATE)


def slices(dataset):
    """Yield (source, start, wave, f0, content) of every slice, without padding."""
    for windows in (dataset.train, dataset.holdout):
        for i, frames in enumerate(windows.lengths):
            yield (
                windows.source[i],
                windows.start[i],
                windows.samples(i)[: frames * HOP],
                windows.f0[i, :frames],
                windows.content[i, : frames // 2],
            )


# What comes out


def test_slices_are_the_recording_at_their_place_normalised(dataset, sample_voice):
    for source, start, wave, _, _ in slices(dataset):
        original = recording(sample_voice / source)[round(start * RATE) :][: len(wave)]
        gain = original @ wave / (original @ original)
        np.testing.assert_allclose(wave, gain * original, atol=1e-3)
        # The gain is that of the whole slice, whose peak may lie in what the hold-out has taken.
        assert gain <= 0.9 * 0.75 / np.abs(original).max() + 0.25 + 1e-3
        assert np.abs(wave).max() < 1


def test_train_and_holdout_share_no_sample_and_cover_the_speech(dataset, sample_voice):
    ranges = {}
    for name, windows in (("train", dataset.train), ("holdout", dataset.holdout)):
        for source, start, frames in zip(
            windows.source, windows.start, windows.lengths, strict=True
        ):
            ranges.setdefault(source, []).append((start, start + frames / 100, name))
    assert set(ranges) == {path.name for path in sample_voice.iterdir()}
    covered = 0.0
    for parts in ranges.values():
        for (start, stop, split), (
            other_start,
            other_stop,
            other_split,
        ) in itertools.combinations(parts, 2):
            assert (
                split == other_split or stop <= other_start + 1e-9 or other_stop <= start + 1e-9
            )
        instants = np.arange(0, 20, 0.01)
        covered += 0.01 * sum(
            any(start <= t < stop for start, stop, _ in parts) for t in instants
        )
    assert covered == pytest.approx(60 * dataset.info.speech_minutes, rel=0.02)


def test_pitch_and_content_are_those_of_the_slices_place(dataset, sample_voice):
    # Slices beside the hold-out were longer when their features were computed.
    whole = [item for item in slices(dataset) if len(item[2]) >= 3 * RATE]
    audio = np.zeros((NANO.feature_batch, 336 * HOP), np.float32)
    lengths = np.full(len(audio), audio.shape[1])
    for i, (source, start, wave, _, _) in enumerate(whole[: len(audio)]):
        audio[i, : len(wave)] = recording(sample_voice / source)[round(start * RATE) :][
            : len(wave)
        ]
        lengths[i] = len(wave)
    all_f0 = load_pitch_extractor("swift")(audio, lengths)
    all_content = load_content_encoder("whisper-tiny")(audio, lengths)
    for f0, content, (_, _, _, slice_f0, slice_content) in zip(
        all_f0, all_content, whole, strict=False
    ):
        f0 = f0[: len(slice_f0)]
        content = content[: len(slice_content)]
        voiced = (f0 > 0) & (slice_f0 > 0)
        assert voiced.sum() > 0.95 * max((f0 > 0).sum(), (slice_f0 > 0).sum())
        assert np.median(np.abs(1200 * np.log2(f0[voiced] / slice_f0[voiced]))) < 5  # cents
        distance = np.median(np.linalg.norm(content - slice_content, axis=1))
        assert distance < 0.3 * np.median(
            np.linalg.norm(content[1:] - slice_content[:-1], axis=1)
        )


def test_info_describes_the_dataset(dataset, sample_voice):
    info = dataset.info
    seconds = sum(soundfile.info(path).duration for path in sample_voice.iterdir())
    assert info.source_minutes == pytest.approx(seconds / 60, rel=1e-3)
    assert (info.files, info.dropped, info.skipped, info.notes) == (6, (), (), ())
    assert (info.preset, info.sample_rate, info.f0_method) == ("nano", RATE, "swift")
    assert (info.content_encoder, info.content_channels) == ("whisper-tiny", 384)
    assert info.speakers == ("callie",)
    assert (info.train_slices, info.holdout_slices) == (
        len(dataset.train),
        len(dataset.holdout),
    )
    assert (info.config["chunk_len"], info.config["f0_method"]) == (3.0, "swift")
    voiced = np.concatenate([f0[f0 > 0] for f0 in (*dataset.train.f0, *dataset.holdout.f0)])
    assert info.median_f0 == pytest.approx(np.median(voiced), rel=0.01)
    assert info.speaker_median_f0 == (info.median_f0,)
    assert info.speaker_minutes == pytest.approx((info.speech_minutes,), rel=0.02)
    assert 150 < info.median_f0 < 250


def test_the_same_input_and_settings_give_the_same_dataset(dataset, sample_voice, tmp_path):
    shutil.copytree(sample_voice, tmp_path / "copy [1]" / "callie")
    reporter = KeepingReporter()
    info = prepare(tmp_path / "copy [1]" / "callie", tmp_path / "out [1] é🎤", NANO, reporter)
    assert info == dataset.info
    again = load_dataset(tmp_path / "out [1] é🎤")
    for name in ("wave", "content", "f0", "lengths", "start"):
        np.testing.assert_array_equal(getattr(again.train, name), getattr(dataset.train, name))
    assert again.train.source == dataset.train.source
    for stage in ("features", "write"):
        steps = [step for step in reporter.steps if step.stage == stage]
        done = [
            step.done for step in steps if step.text == steps[-1].text or stage == "features"
        ]
        assert done == sorted(done)
        assert steps[-1].done == steps[-1].total


def test_other_settings_or_samples_give_another_fingerprint(clip, tmp_path):
    wave, rate = soundfile.read(clip)
    soundfile.write(tmp_path / "softer.wav", 0.9 * wave, rate)
    infos = [
        prepare(clip, tmp_path / "a", NANO),
        prepare(clip, tmp_path / "b", PrepareConfig(preset="nano", high_pass_hz=60.0)),
        prepare(tmp_path / "softer.wav", tmp_path / "c", NANO),
    ]
    assert len({info.fingerprint for info in infos}) == 3


def test_a_bad_file_among_good_ones_is_skipped_and_named(tmp_path, speech):
    wave, rate = speech
    folder = tmp_path / "Zoë ça va 🎤"
    folder.mkdir()
    damaged = wave.copy()
    damaged[int(4.2 * rate)] = np.nan
    soundfile.write(folder / "damaged.wav", damaged, rate, "FLOAT")
    soundfile.write(
        folder / "surround 192.wav",
        np.repeat(wave[: 2 * rate].repeat(4)[:, None], 8, 1),
        4 * rate,
    )
    (folder / "text.wav").write_text("This is not a recording. " * 40)
    (folder / "LICENSE.txt").write_text("free")
    info = prepare(folder, tmp_path / "out", NANO)
    assert info.files == 2
    assert info.skipped == (Drop("text.wav", None, "not audio"),)
    (broken,) = [drop for drop in info.dropped if drop.seconds is not None]
    assert (broken.file, broken.reason) == ("damaged.wav", "non-finite samples")
    assert 1.2 < broken.seconds < 4.21
    dataset = load_dataset(tmp_path / "out")
    assert all(np.isfinite(wave).all() for _, _, wave, _, _ in slices(dataset))
    assert read_info(tmp_path / "out") == info


@pytest.mark.parametrize(("seconds", "counts"), [(1.5, (1, 0)), (3.6, (1, 1)), (6.0, (1, 1))])
def test_little_speech_is_enough(tmp_path, speech, seconds, counts):
    wave, rate = speech
    soundfile.write(tmp_path / "a.wav", wave[rate : int((1 + seconds) * rate)], rate)
    info = prepare(tmp_path / "a.wav", tmp_path / "out", NANO)
    dataset = load_dataset(tmp_path / "out")
    assert (
        (len(dataset.train), len(dataset.holdout))
        == (info.train_slices, info.holdout_slices)
        == counts
    )
    assert len(info.notes) == (counts[1] == 0)


# What is refused, with one line and nothing left behind


def text_named_wav(folder, wave, rate):
    (folder / "a.wav").write_text("This is not a recording. " * 40)


def truncated_flac(folder, wave, rate):
    whole = (find_bundled_sample("voice") / "vm-choose_password.flac").read_bytes()
    (folder / "a.flac").write_bytes(whole[: len(whole) // 2])


def fifth_of_a_second(folder, wave, rate):
    soundfile.write(folder / "a.wav", wave[rate : rate + rate // 5], rate)


def ten_minutes_of_silence(folder, wave, rate):
    soundfile.write(folder / "a.wav", np.zeros(600 * 16000, np.int16), 16000)


def nothing_but_nan(folder, wave, rate):
    soundfile.write(folder / "a.wav", np.full(5 * rate, np.nan), rate, "FLOAT")


def speech_full_of_nan(folder, wave, rate):
    wave = wave.copy()
    wave[:: rate // 10] = np.nan
    soundfile.write(folder / "a.wav", wave, rate, "FLOAT")


def full_scale_square_wave(folder, wave, rate):
    soundfile.write(
        folder / "a.wav", np.sign(np.sin(np.arange(10 * rate) * (2 * np.pi * 200 / rate))), rate
    )


def nothing(folder, wave, rate):
    pass


BAD = {
    nothing: "holds no recordings",
    text_named_wav: "no usable speech: 0.0 s of sound in 1 file: not audio",
    truncated_flac: "no usable speech: 0.0 s of sound in 1 file: (truncated|broken)",
    fifth_of_a_second: "no usable speech: 0.2 s of sound in 1 file: shorter than 0.4 s",
    ten_minutes_of_silence: "no usable speech: 600.0 s of sound in 1 file: silent",
    nothing_but_nan: "no usable speech: 5.0 s of sound in 1 file: silent",
    speech_full_of_nan: "no usable speech: .* in 1 file: non-finite samples",
    full_scale_square_wave: "no usable speech: 10.0 s of sound in 1 file: clipped",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_bad_input_is_refused_in_one_line(tmp_path, speech, bad):
    folder = tmp_path / "speech"
    folder.mkdir()
    bad(folder, *speech)
    with pytest.raises(UserError, match=BAD[bad]) as error:
        prepare(folder, tmp_path / "out", NANO)
    assert "\n" not in str(error.value)
    assert list_names(tmp_path) == ["speech"]


def test_only_datasets_are_overwritten_on_request(clip, tmp_path):
    (tmp_path / "out").mkdir()  # an empty folder is free
    first = prepare(clip, tmp_path / "out", NANO)
    with pytest.raises(UserError, match="is a dataset already"):
        prepare(clip, tmp_path / "out", NANO)
    with pytest.raises(UserError, match="does not exist"):
        prepare(tmp_path / "missing", tmp_path / "out", NANO, overwrite=True)
    assert read_info(tmp_path / "out") == first
    second = prepare(
        clip, tmp_path / "out", PrepareConfig(preset="nano", high_pass_hz=60.0), overwrite=True
    )
    assert read_info(tmp_path / "out") == second != first
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    for out in (tmp_path / "other", tmp_path / "other" / "thesis.txt"):
        with pytest.raises(UserError, match="is not a dataset"):
            prepare(clip, out, NANO, overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        prepare(clip, tmp_path / "other" / "thesis.txt" / "out", NANO)
    assert list_names(tmp_path) == ["other", "out"]
    assert list_names(tmp_path / "other") == ["thesis.txt"]


def test_an_interruption_leaves_nothing_behind(sample_voice, tmp_path):
    class Interrupting(KeepingReporter):
        def progress(self, stage, done, total, text=""):
            if stage == "write" and done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(sample_voice, tmp_path / "out", NANO, Interrupting())
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("kilobytes", [64, 1500])
def test_a_full_disk_is_reported_and_cleaned_up(sample_voice, tmp_path, kilobytes):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(UserError, match="disk full"):
            prepare(sample_voice, tmp_path / "out", NANO)
        assert list_names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# The cache


@pytest.fixture
def counted(monkeypatch):
    """How many slices each extractor has received, by dtype."""
    from rvc_jax.data.extraction import BatchExtractor

    counts = {"float32": 0, "float16": 0}
    add = BatchExtractor.add

    def counting(self, *args):
        counts[np.dtype(self.dtype).name] += 1
        add(self, *args)

    monkeypatch.setattr(BatchExtractor, "add", counting)
    return counts


def test_one_more_file_is_one_files_work(sample_voice, tmp_path, counted):
    folder = shutil.copytree(sample_voice, tmp_path / "speech")
    before = prepare(folder, tmp_path / "a", NANO, cache=tmp_path / "cache")
    assert (
        counted["float32"] == counted["float16"] == before.train_slices + before.holdout_slices
    )
    counted.update(float32=0, float16=0)
    assert prepare(folder, tmp_path / "b", NANO, cache=tmp_path / "cache") == before
    assert counted == {"float32": 0, "float16": 0}
    shutil.copy(find_bundled_sample("voice") / "zrtp-enroll_confirmed.flac", folder / "zz.flac")
    (folder / "ivr-concentrate.flac").rename(folder / "a new name.flac")
    after = prepare(folder, tmp_path / "c", NANO, cache=tmp_path / "cache")
    assert after.files == before.files + 1
    new = [name for name in load_dataset(tmp_path / "c").train.source if name == "zz.flac"]
    assert len(new) - 1 <= counted["float32"] == counted["float16"] <= len(new) + 3


def test_other_audio_under_the_same_name_and_other_settings_are_computed_anew(
    clip, tmp_path, counted
):
    path = tmp_path / "a.wav"
    shutil.copy(clip, path)
    prepare(path, tmp_path / "1", NANO, cache=tmp_path / "cache")
    wave, rate = soundfile.read(clip)
    soundfile.write(path, wave[::-1], rate)
    prepare(path, tmp_path / "2", NANO, cache=tmp_path / "cache")
    assert counted == {"float32": 2, "float16": 2}
    prepare(
        path,
        tmp_path / "3",
        PrepareConfig(preset="nano", normalize_peak=0.5),
        cache=tmp_path / "cache",
    )
    assert counted == {"float32": 3, "float16": 3}
    prepare(
        path,
        tmp_path / "4",
        PrepareConfig(preset="nano", holdout_max=30.0),
        cache=tmp_path / "cache",
    )
    assert counted == {"float32": 3, "float16": 3}


def test_another_embedder_never_takes_the_old_ones_features(
    clip, tmp_path, counted, monkeypatch
):
    prepare(clip, tmp_path / "1", NANO, cache=tmp_path / "cache")
    encoder = load_content_encoder("whisper-tiny")
    monkeypatch.setattr(encoder, "fingerprint", "other weights under the same name")
    info = prepare(clip, tmp_path / "2", NANO, cache=tmp_path / "cache")
    assert counted == {"float32": 1, "float16": 2}
    assert info.content_fingerprint == "other weights under the same name"
    assert info.fingerprint != read_info(tmp_path / "1").fingerprint


def test_a_damaged_or_missing_cache_entry_is_computed_again(
    sample_voice, tmp_path, sample_dataset
):
    prepare(sample_voice, tmp_path / "1", NANO, cache=tmp_path / "cache")
    entries = sorted((tmp_path / "cache").rglob("*.*"))
    assert len(entries) > 12
    for number, entry in enumerate(entries):
        if number % 3 == 0:
            entry.unlink()
        elif number % 3 == 1:
            content = bytearray(entry.read_bytes())
            content[len(content) // 2] ^= 0x40
            entry.write_bytes(content)
    assert prepare(sample_voice, tmp_path / "2", NANO, cache=tmp_path / "cache") == read_info(
        sample_dataset
    )
    for file in (tmp_path / "2").iterdir():
        assert file.read_bytes() == (tmp_path / "1" / file.name).read_bytes()


def test_a_file_that_is_replaced_before_it_is_written(clip, tmp_path, monkeypatch):
    recording = tmp_path / "speech" / "a.wav"
    recording.parent.mkdir()
    shutil.copy(clip, recording)

    def replacing(*args):
        plan = split_slices(*args)
        wave, rate = soundfile.read(recording)
        soundfile.write(recording, wave[::-1], rate)
        return plan

    monkeypatch.setattr("rvc_jax.data.prepare.split_slices", replacing)
    with pytest.raises(UserError, match=r"a\.wav has changed.*prepare again"):
        prepare(recording.parent, tmp_path / "out", NANO)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speech"]


def test_speakers_have_numbers_names_and_a_share_of_the_holdout(
    tmp_path, sample_voice, other_clip
):
    folder = tmp_path / "all"
    shutil.copytree(sample_voice, folder / "callie")
    (folder / "other one").mkdir()
    shutil.copy(other_clip, folder / "other one")
    (folder / "a silent one").mkdir()
    soundfile.write(folder / "a silent one" / "1.wav", np.zeros(16000), 16000)
    info = prepare(folder, tmp_path / "out", NANO)
    assert info.speakers == ("callie", "other one")
    assert "speaker a silent one has no usable speech, and gets no number" in info.notes
    assert info.speaker_minutes[0] > 3 * info.speaker_minutes[1] > 0
    dataset = load_dataset(tmp_path / "out")
    for windows in (dataset.train, dataset.holdout):
        assert {
            (source.partition("/")[0], number)
            for source, number in zip(windows.source, windows.speaker, strict=True)
        } == {
            ("callie", 0),
            ("other one", 1),
        }
    assert prepare(
        folder, tmp_path / "one", PrepareConfig(preset="nano", speakers="one")
    ).speakers == ("all",)


def test_long_clips_are_windowed_and_nothing_is_lost(tmp_path):
    """Clips of 39 s, taken whole: the PyTorch tools lose most of them."""
    wave, rate = soundfile.read(
        find_bundled_sample("voice") / "zrtp-enroll_confirmed.flac", dtype="float32"
    )
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(2):
        clip = np.roll(np.tile(wave, 4), 1000 * number)[: 39 * rate]
        soundfile.write(folder / f"{number}.wav", clip, rate)
    info = prepare(folder, tmp_path / "out", PrepareConfig(preset="nano", slicing="skip"))
    assert info.speech_minutes * 60 == pytest.approx(78, abs=0.1)
    dataset = load_dataset(tmp_path / "out")
    seen = {name: np.zeros(3900, bool) for name in ("0.wav", "1.wav")}
    for windows in (dataset.train, dataset.holdout):
        for name, start, frames in zip(
            windows.source, windows.start, windows.lengths, strict=True
        ):
            seen[name][round(start * 100) : round(start * 100) + frames] = True
    assert all(frames.sum() >= 3890 for frames in seen.values())


# Other processes


def test_a_place_where_another_preparation_works_is_refused(clip, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with lock_output(tmp_path / "out"):
        for out in ("out", "link", "link/../out"):
            with pytest.raises(UserError, match=r"in use by process \d+ .*--out"):
                prepare(clip, tmp_path / out, NANO, overwrite=True)
    assert list_names(tmp_path) == ["link", "out"]


def test_what_appears_meanwhile_is_not_replaced(clip, tmp_path):
    out = tmp_path / "out"

    def appear(done):
        out.mkdir(exist_ok=True)
        (out / "file").write_text("somebody's")

    with pytest.raises(UserError, match="exists and is not a dataset"):
        prepare(clip, out, NANO, KeepingReporter(on_progress=appear))
    assert list_names(tmp_path) == ["out"] and list_names(out) == ["file"]


def test_nothing_temporary_is_left(clip, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    prepare(clip, tmp_path / "out", NANO)
    assert list_names(tmp_path) == ["out", "temporary"] and not list_names(temporary)


def test_a_dataset_is_not_lost_when_its_replacement_was_killed(clip, tmp_path):
    out = tmp_path / "out"
    before = prepare(clip, out, NANO)
    # Killed between the two moves.
    left = tmp_path / ".out.0123.unfinished"
    left.mkdir()
    out.rename(left / "old")
    with pytest.raises(UserError, match="is a dataset already"):
        prepare(clip, out, NANO)
    assert read_info(out) == before and list_names(tmp_path) == ["out"]
