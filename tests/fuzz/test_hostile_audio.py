"""Damaged, deceptive and foreign recordings: each has audio or a reason, and harms no other."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import av
import hostile_audio
import numpy as np
import pytest
import soundfile
import worker

from rvc_jax.audio.reading import AudioError, decode
from rvc_jax.cli.main import main
from rvc_jax.data.dataset import DatasetInfo, iterate, load_dataset, read_info
from rvc_jax.data.sources import find_bundled_sample

pytest.importorskip("resource")

OF_PYAV = int(av.__version__.split(".")[0])
TOO_MANY_CHANNELS = (
    "broken after 0.0 s" if OF_PYAV < 19 else "65535 channels; up to 64 can be read"
)

INTACT = {
    "a title that steers a terminal.mka",
    "a comment of no end.flac",
    "a picture of no end.flac",
    "a tag of 2 MB.mp3",
    "a thousand tags.mp3",
    "a picture that is a recording.mp3",
    "a link to a picture.mp3",
    "an APE tag of no end.mp3",
    "a thousand chunks.wav",
    "many cues.wav",
    "data of 4294967295 bytes by its header.wav",
    "a RIFF of no length.wav",
    "pcm16 before garbage.wav",
    "flac before garbage.flac",
    "aac before garbage.m4a",
    "opus before garbage.webm",
    "all speakers.wav",
    "at 768 kHz.wav",
    "at 4 kHz.wav",
    "eight channels at 192 kHz.wav",
    "two files in one.ogg",
    "an id3 within.wav",
    "a sampler of many loops.wav",
    "data twice.wav",
    "eight channels.mov",
    "eight channels.mka",
    "twenty-four channels.mka",
    "a title in Latin-1.mka",
    *(f"a duration no. {number}.mka" for number in range(1, 13)),
}
"""Strange, but their speech is all there."""

SILENT = {"silent", "no samples in it", "shorter than 0.4 s"}
SAMPLES = {
    "some NaN.wav": {"non-finite samples"},
    "all NaN.wav": SILENT,
    "infinite.wav": {"non-finite samples"},
    "a peak of 1e38.wav": {"too loud"},
    "from end to end of the scale.wav": {"too loud"},
    # Taken for samples on the scale of 16-bit integers.
    "a thousand times too loud.wav": {None},
    "constant beyond.wav": SILENT,  # without its offset
    "clipped.wav": {"clipped", "too loud"},
    "silent.wav": SILENT,
    "negative zero.wav": SILENT,
    "nearly nothing.wav": SILENT,
    "very quiet.wav": SILENT,
    "beyond float.wav": SILENT,
    "channels that cancel.wav": {None},  # one of them is taken
    "no sample.wav": SILENT,
    "one sample.wav": SILENT,
    "one sample.mp3": SILENT,
    "one sample.flac": SILENT,
}
"""Files, and the reasons that are right for them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile") / "speech"
    made.mkdir()
    for name, content in hostile_audio.files().items():
        (made / name).write_bytes(content)
    return made


def check(result: worker.Result) -> None:
    """Sound or a reason, and no crash."""
    assert "crash" not in result, result
    if "slices" in result:
        assert result["finite"] and result["slices"] and result["length"] < 60
    else:
        assert result["reason"].isprintable() and 5 < len(result["reason"]) < 200


# One by one, in a process of limited memory


def test_the_same_speech_comes_out_of_every_container(tmp_path: Path) -> None:
    for name, content in hostile_audio.containers().items():
        (tmp_path / name).write_bytes(content)
    for name, result in worker.read_folder("decode", tmp_path).items():
        assert result["slices"] == [None] and abs(result["length"] - 2) < 0.15, name


def test_every_file_ends_in_sound_or_in_a_reason(folder: Path) -> None:
    results = worker.read_folder("decode", folder)
    assert set(results) == set(hostile_audio.files()) and len(results) > 650
    for name, result in results.items():
        check(result)
        is_whole = set(result.get("slices", ["refused"])) == {None}
        assert is_whole or name not in INTACT, (name, result)
        reasons = set(result.get("slices", [result.get("reason")]))
        assert name not in SAMPLES or reasons <= SAMPLES[name], (name, result)
    refused = {name for name, result in results.items() if "reason" in result}
    assert hostile_audio.other_files().keys() | hostile_audio.play_lists().keys() <= refused | {
        "program.au"
    }


@pytest.mark.heavy
@pytest.mark.parametrize("name", hostile_audio.containers())
def test_hundreds_of_mutations(tmp_path: Path, name: str) -> None:
    for number in range(300):
        content = hostile_audio.mutated(hostile_audio.containers()[name], number)
        (tmp_path / f"{number}.{name.rpartition('.')[2]}").write_bytes(content)
    for result in worker.read_folder("decode", tmp_path).values():
        check(result)


def test_play_lists_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to a file in the current folder, nor to an address: nobody knocks."""
    soundfile.write(tmp_path / "good.wav", hostile_audio.speech(), hostile_audio.RATE)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        address = b"127.0.0.1:%d" % server.getsockname()[1]
        for name, content in hostile_audio.play_lists().items():
            (tmp_path / name).write_bytes(content.replace(b"127.0.0.1:9", address))
            with pytest.raises(AudioError, match="^not audio$"):
                decode(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    hostile_audio.nodes(tmp_path)
    results = worker.read_folder("decode", tmp_path, seconds=10)
    assert len(results) == len(list(tmp_path.iterdir())) >= 10
    assert all("reason" in result for result in results.values())


# All together, in one preparation


@pytest.fixture(scope="module")
def good(folder: Path) -> DatasetInfo:
    """The dataset `good` beside the folder: of the good recording alone."""
    (folder.parent / "one").mkdir()
    shutil.copy(
        find_bundled_sample("voice") / "vm-choose_password.flac",
        folder.parent / "one" / "good.flac",
    )
    return prepared(folder.parent, "one", "good")


@pytest.fixture(scope="module")
def everything(folder: Path, good: DatasetInfo) -> DatasetInfo:
    """The dataset `all`: of the good recording among half of the others, and what is no file."""
    many = folder.parent / "many"
    many.mkdir()
    for path in sorted(folder.iterdir())[::2]:
        shutil.copy(path, many)
    shutil.copy(folder.parent / "one" / "good.flac", many)
    hostile_audio.nodes(many)
    return prepared(folder.parent, "many", "all")


def prepared(place: Path, source: str, out: str) -> DatasetInfo:
    """A dataset without hold-out, which would depend on how much other speech there is."""
    options = [
        "--preset",
        "nano",
        "--cache",
        f"{out} cache",
        "--holdout",
        "0",
        "--holdout-min",
        "0",
        "--json",
    ]
    command = [sys.executable, "-m", "rvc_jax", "prepare", source, "--out", out, *options]
    done = subprocess.run(
        command, cwd=place, env=environment(), capture_output=True, timeout=300
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr[
        -3000:
    ].decode()
    info = read_info(place / out)
    assert json.loads(done.stdout[done.stdout.index(b"{") :])["fingerprint"] == info.fingerprint
    return info


def environment() -> dict[str, str]:
    """`-m` looks for modules in the current folder, where ours need not be."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def records(dataset: Path) -> list[dict]:
    return list(iterate(dataset, "train"))


def test_every_file_is_in_the_dataset_or_among_the_dropped(
    folder: Path, everything: DatasetInfo
) -> None:
    files = {path.name for path in (folder.parent / "many").iterdir() if path.is_file()}
    assert everything.files + len(everything.skipped) == len(files) > 300
    used = {record["source"] for record in records(folder.parent / "all")}
    assert used | {drop.file for drop in everything.dropped} == files
    assert used.isdisjoint(drop.file for drop in everything.skipped)
    assert all(drop.reason and drop.reason.isprintable() for drop in everything.dropped)
    assert 0 < everything.speech_minutes <= everything.source_minutes < 30
    assert np.isfinite(everything.median_f0)


def test_every_value_of_every_record_is_finite(folder: Path, everything: DatasetInfo) -> None:
    found = records(folder.parent / "all")
    assert len(found) == everything.train_slices > 80
    for record in found:
        assert np.abs(record["wave"]).max() < 3
        assert all(np.isfinite(record[part]).all() for part in ("wave", "content", "f0"))


def test_the_good_recording_is_as_it_is_alone(
    folder: Path, good: DatasetInfo, everything: DatasetInfo
) -> None:
    expected = records(folder.parent / "good")
    found = [
        record for record in records(folder.parent / "all") if record["source"] == "good.flac"
    ]
    assert len(found) == len(expected) == good.train_slices > 1
    # Samples are rounded to a step that depends on the loudest sample of the dataset.
    steps = [load_dataset(folder.parent / name).train.scale for name in ("good", "all")]
    for one, other in zip(found, expected, strict=True):
        for part in ("start", "f0", "content"):
            np.testing.assert_array_equal(one[part], other[part])
        assert np.abs(one["wave"] - other["wave"]).max() <= 0.51 * sum(steps)


def test_nothing_else_is_left(folder: Path, everything: DatasetInfo) -> None:
    left = {path.name for path in folder.parent.iterdir()}
    assert left == {"speech", "one", "many", "good", "all", "good cache", "all cache"}


# Alone, on the command line


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.wav", "empty file"),
        ("bomb.wav", "not audio"),
        ("stream 0.ogg", "not audio"),
        ("2^36 samples.flac", "1193 hours by its header"),
        ("65535 channels.wav", TOO_MANY_CHANNELS),
        ("a rate of 1.wav", "a sample rate of 1 Hz"),
        ("pcm16 of 32022 bytes.wav", "truncated: header promises 2.0 s, 1.0 s could be read"),
        ("all NaN.wav", "silent"),
    ],
)
def test_one_file_gives_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    (tmp_path / name).write_bytes(hostile_audio.files()[name])
    line = refusal(
        capfd,
        "prepare",
        str(tmp_path / name),
        "--out",
        str(tmp_path / "out"),
        "--preset",
        "nano",
    )
    assert line.startswith(f"{tmp_path / name} holds no usable speech: ") and reason in line
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["page.mp3", "mp3 of 1651 bytes.mp3", "a packet without end.caf"]
)
def test_nothing_is_printed_but_our_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(hostile_audio.files()[name])
    command = [sys.executable, "-m", "rvc_jax", "info", str(tmp_path / name)]
    done = subprocess.run(command, env=environment(), capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"rvc-jax: error: ") and done.stderr.count(b"\n") == 1


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command prints besides its progress."""
    code = main(list(arguments))
    output = capfd.readouterr()
    assert (code, output.out) == (2, "")
    *progress, line = output.err.splitlines()
    assert all(text.startswith("analyzing ") for text in progress)
    assert line.startswith("rvc-jax: error: ") and line.isprintable()
    return line.removeprefix("rvc-jax: error: ")


def test_a_folder_of_nothing_but_damage_gives_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speech").mkdir()
    for name, content in hostile_audio.other_files().items():
        if not name.endswith(".mp3"):
            (tmp_path / "speech" / name).write_bytes(content)
    line = refusal(
        capfd,
        "prepare",
        str(tmp_path / "speech"),
        "--out",
        str(tmp_path / "out"),
        "--preset",
        "nano",
    )
    assert line.startswith(f"{tmp_path / 'speech'} holds no usable speech: ")
    assert "not audio (" in line and len(line) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


@pytest.mark.parametrize("name", ["pipe.wav", "zero.wav", "folder.wav", "loop.wav", "gone.wav"])
def test_what_is_no_file_gives_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    hostile_audio.nodes(tmp_path)
    before = set(tmp_path.iterdir())
    refusal(
        capfd,
        "prepare",
        str(tmp_path / name),
        "--out",
        str(tmp_path / "out"),
        "--preset",
        "nano",
    )
    refusal(capfd, "info", str(tmp_path / name))
    assert set(tmp_path.iterdir()) == before
