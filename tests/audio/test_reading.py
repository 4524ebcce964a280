"""Decoding: every format, every damage, every name."""

import math
import os

import av
import numpy as np
import pytest
import soundfile

from rvc_jax.audio import reading
from rvc_jax.audio.reading import AudioError, decode, decode_blocks, find_audio, load
from rvc_jax.errors import UserError

RATE = 16000


def write_ffmpeg(path, wave, rate, codec, with_video=False, **options):
    with av.open(str(path), "w", **options) as container:
        video = container.add_stream("mpeg4", rate=25) if with_video else None
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave), format="fltp", layout="stereo"
        )
        frame.rate = rate
        if video:
            video.width = video.height = 64
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            container.mux(video.encode(picture) + video.encode())
        container.mux(stream.encode(frame) + stream.encode())


def cut(path, share, name="cut"):
    content = path.read_bytes()
    shorter = path.with_name(name + path.suffix)
    shorter.write_bytes(content[: int(len(content) * share)])
    return shorter


@pytest.mark.parametrize(
    ("ending", "format", "subtype", "tolerance"),
    [
        (".wav", "WAV", "PCM_16", 1e-4),
        (".wav", "WAV", "PCM_24", 1e-6),
        (".wav", "WAV", "FLOAT", 0),
        (".wav", "WAVEX", "DOUBLE", 0),
        (".wav", "WAV", "ULAW", 0.02),
        (".flac", "FLAC", "PCM_16", 1e-4),
        (".aiff", "AIFF", "PCM_16", 1e-4),
        (".ogg", "OGG", "VORBIS", 0.3),
        (".mp3", "MP3", None, 0.5),
    ],
)
def test_decodes_what_libsndfile_knows(tmp_path, stereo, ending, format, subtype, tolerance):
    path = tmp_path / f"voice{ending}"
    soundfile.write(path, stereo.T, RATE, format=format, subtype=subtype)
    wave, rate = decode(path)
    assert rate == RATE and wave.shape == stereo.shape and wave.dtype == np.float32
    assert np.abs(wave - stereo).max() <= tolerance


def test_opus_is_decoded_at_its_own_rate(tmp_path, stereo):
    """48 kHz, whatever was encoded."""
    soundfile.write(tmp_path / "a.opus", stereo.T, RATE, format="OGG", subtype="OPUS")
    wave, rate = decode(tmp_path / "a.opus")
    assert rate == 48000 and wave.shape == (2, 480000)
    assert np.std(wave, axis=1) == pytest.approx(np.std(stereo, axis=1), rel=0.3)


@pytest.mark.parametrize(
    ("name", "codec", "with_video"),
    [
        ("a.m4a", "aac", False),
        ("a.mp4", "aac", True),
        ("a.mkv", "ac3", True),
        ("a.webm", "libopus", False),
    ],
)
def test_decodes_what_ffmpeg_knows(tmp_path, stereo, name, codec, with_video):
    rate = 48000
    write_ffmpeg(tmp_path / name, stereo, rate, codec, with_video)
    wave, decoded_rate = decode(tmp_path / name)
    assert decoded_rate == rate and wave.shape[0] == 2
    assert abs(wave.shape[1] / rate - stereo.shape[1] / rate) < 0.1
    assert np.std(wave, axis=1) == pytest.approx(np.std(stereo, axis=1), rel=0.3)


def test_many_channels_at_a_high_rate(tmp_path):
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 192000)).astype(np.float32)
    soundfile.write(tmp_path / "eight.wav", wave.T, 192000, subtype="FLOAT")
    decoded, rate = decode(tmp_path / "eight.wav")
    assert rate == 192000
    np.testing.assert_array_equal(decoded, wave)
    assert load(tmp_path / "eight.wav", 16000).shape == (16000,)


@pytest.mark.parametrize(
    "name", ["with space.wav", "é à ü.flac", "🎤 声.ogg", "UPPER.WAV", "no-ending"]
)
def test_names(tmp_path, stereo, name):
    format = {"flac": "FLAC", "ogg": "OGG"}.get(name.rsplit(".")[-1], "WAV")
    soundfile.write(tmp_path / name, stereo.T, RATE, format=format)
    assert decode(tmp_path / name)[0].shape == stereo.shape


def test_nan_samples_are_returned(tmp_path, stereo):
    stereo[:, 100] = np.nan
    soundfile.write(tmp_path / "nan.wav", stereo.T, RATE, subtype="FLOAT")
    assert np.isnan(decode(tmp_path / "nan.wav")[0][:, 100]).all()


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.mp3"])
def test_truncated_files_are_reported(tmp_path, stereo, name):
    soundfile.write(tmp_path / name, stereo.T, RATE)
    with pytest.raises(
        AudioError, match=r"^truncated: header promises 10.0 s, 6.\d s could be read$"
    ):
        decode(cut(tmp_path / name, 0.62))


def test_a_flac_that_lost_its_last_samples_is_truncated(tmp_path, stereo):
    soundfile.write(tmp_path / "a.flac", stereo.T, RATE)
    with pytest.raises(AudioError, match="truncated"):
        decode(cut(tmp_path / "a.flac", 0.999))


def test_truncated_video_is_reported(tmp_path, stereo):
    write_ffmpeg(tmp_path / "a.mp4", stereo, RATE, "aac", options={"movflags": "faststart"})
    with pytest.raises(
        AudioError, match=r"truncated: header promises 10.\d s, 6.\d s could be read"
    ):
        decode(cut(tmp_path / "a.mp4", 0.62))


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path, stereo):
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as written into a pipe
    (tmp_path / "a.wav").write_bytes(content)
    assert decode(tmp_path / "a.wav")[0].shape == stereo.shape


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"Once upon a time\n" * 50, "not audio"),
        (b"RIFF\0\0\0\0WAVE", "not audio"),
        (bytes(5000), "not audio"),
    ],
)
@pytest.mark.parametrize("ending", [".wav", ".mp3", ".flac", ".m4a", ".txt", ".raw"])
def test_what_is_not_audio(tmp_path, content, reason, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"^{reason}$"):
        decode(path)


def test_a_stream_that_changes_its_channels_is_read_to_its_end(tmp_path, stereo):
    """As radio does between programmes: frames of one channel after frames of two."""
    parts = []
    for name, layout in (("a.ts", "stereo"), ("b.ts", "mono")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mp2", rate=RATE)
            stream.layout = layout
            wave = np.ascontiguousarray(stereo if layout == "stereo" else stereo[:1])
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=layout)
            frame.rate = RATE
            resampler = av.AudioResampler(format="s16", layout=layout, rate=RATE)
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
            container.mux(stream.encode())
        parts.append((tmp_path / name).read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    wave, _ = decode(tmp_path / "both.ts")
    assert wave.shape[0] == 2 and wave.shape[1] / RATE == pytest.approx(20, abs=0.2)
    # The part of one channel is in both.
    np.testing.assert_allclose(*wave[:, 11 * RATE : 19 * RATE], atol=1e-6)
    assert np.std(wave[0, 11 * RATE : 19 * RATE]) == pytest.approx(np.std(stereo[0]), rel=0.3)


def test_a_coding_that_nobody_knows(tmp_path, stereo):
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[20:22] = b"\x34\x12"  # the number of the coding
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match="^coded in a way that ffmpeg does not know$"):
        decode(tmp_path / "a.wav")


def test_damage_is_not_printed(tmp_path, stereo, capfd):
    soundfile.write(tmp_path / "a.caf", stereo.T, RATE)
    content = bytearray((tmp_path / "a.caf").read_bytes())
    # a length of the second chunk that no file has
    content[56] = 127
    content[69] = 255
    (tmp_path / "a.caf").write_bytes(content)
    with pytest.raises(AudioError):
        decode(tmp_path / "a.caf")
    assert capfd.readouterr() == ("", "")


def test_files_without_sound(tmp_path, stereo):
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(AudioError, match="no samples"):
        decode(tmp_path / "none.wav")
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        container.mux(video.encode(picture) + video.encode())
    with pytest.raises(AudioError, match="no audio stream"):
        decode(tmp_path / "silent.mp4")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        decode(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="directory"):
        decode(tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.webm"])
def test_blocks_are_the_file_and_a_cut_is_exact(tmp_path, monkeypatch, stereo, name):
    if name == "a.webm":
        write_ffmpeg(tmp_path / name, stereo, 48000, "libopus")
    else:
        soundfile.write(tmp_path / name, stereo.T, RATE)
    whole, rate = decode(tmp_path / name)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 10000)
    for start, stop in ((0.0, None), (0.0, 2.0), (1.23456, 3.3), (2.5, None), (3.0, 3.0001)):
        blocks = list(decode_blocks(tmp_path / name, start, stop)[1])
        assert all(block.shape[0] == 2 and block.size < 20000 for block in blocks)
        last = None if stop is None else round(stop * rate)
        np.testing.assert_array_equal(
            np.concatenate(blocks, axis=1), whole[:, round(start * rate) : last]
        )


@pytest.mark.parametrize(
    ("start", "stop", "reason"),
    [
        (9.0, 10.6, "10.0 s long: it cannot be cut from 9 s to 10.6 s"),
        (11.0, None, "10.0 s long: it cannot be cut from 11 s to its end"),
        (11.0, 12.0, "10.0 s long: it cannot be cut from 11 s to 12 s"),
        (-1.0, 2.0, "a cut from -1 s to 2 s is impossible"),
        (3.0, 3.0, "a cut from 3 s to 3 s is impossible"),
        (math.nan, None, "a cut from nan s to its end is impossible"),
        (0.0, math.inf, "a cut from 0 s to inf s is impossible"),
    ],
)
def test_impossible_cuts(tmp_path, stereo, start, stop, reason):
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE)
    with pytest.raises(AudioError, match=f"^{reason}$"):
        list(decode_blocks(tmp_path / "a.wav", start, stop)[1])


def test_a_cut_may_reach_half_a_second_over_the_end(tmp_path, stereo):
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE)
    assert (
        sum(block.shape[1] for block in decode_blocks(tmp_path / "a.wav", 9.0, 10.4)[1]) == RATE
    )


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_a_cut_needs_the_intact_part_alone(tmp_path, stereo, name):
    soundfile.write(tmp_path / name, stereo.T, RATE)
    truncated = cut(tmp_path / name, 0.62)
    assert sum(block.shape[1] for block in decode_blocks(truncated, 2.0, 3.0)[1]) == RATE
    for start, stop in ((5.0, 7.0), (7.0, 8.0)):
        with pytest.raises(
            AudioError, match=r"^truncated: header promises 10.0 s, 6.\d s could be read$"
        ):
            list(decode_blocks(truncated, start, stop)[1])


@pytest.mark.parametrize(
    ("rate", "channels", "reason"),
    [
        (3999, 1, "a sample rate of 3999 Hz; 4000 to 768000 Hz can be read"),
        (2_000_000_000, 1, "a sample rate of 2000000000 Hz"),
        (16000, 65, "65 channels; up to 64"),
    ],
)
def test_what_no_recording_has(tmp_path, rate, channels, reason):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels)), rate)
    with pytest.raises(AudioError, match=reason):
        decode(tmp_path / "a.wav")


def test_a_header_that_promises_days(tmp_path, stereo):
    soundfile.write(tmp_path / "a.flac", stereo.T, RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    packed = int.from_bytes(content[18:26]) >> 36 << 36 | (
        1 << 35
    )  # the 36 bits that count the samples
    content[18:26] = packed.to_bytes(8)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="^597 hours by its header; up to 24 can be read"):
        decode(tmp_path / "a.flac")


def test_a_file_that_unpacks_to_far_more_than_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_MAX_VALUES_PER_BYTE", 300)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", RATE)
    soundfile.write(tmp_path / "a.flac", np.zeros((600 * RATE, 2)), RATE)
    size = (tmp_path / "a.flac").stat().st_size
    with pytest.raises(
        AudioError, match=f"^{size} bytes that unpack to more than .* s: not a recording$"
    ):
        decode(tmp_path / "a.flac")
    monkeypatch.setattr(reading, "MAX_HOURS", 1 / 60)
    soundfile.write(tmp_path / "a.mp3", np.zeros((600 * RATE, 2)), RATE)
    content = (tmp_path / "a.mp3").read_bytes().replace(b"Info", b"None", 1)
    (tmp_path / "a.mp3").write_bytes(content.replace(b"Xing", b"None", 1))
    with pytest.raises(AudioError, match="longer than"):
        decode(tmp_path / "a.mp3")


@pytest.mark.parametrize("name", ["list.wav", "list.m3u8", "list.mp4"])
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.wav\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
        "http://127.0.0.1:9/a.wav\n#EXT-X-ENDLIST\n",
    ],
)
def test_play_lists_open_no_other_file(tmp_path, stereo, name, text):
    soundfile.write(tmp_path / "secret.wav", stereo.T, RATE)
    (tmp_path / name).write_text(text)
    with pytest.raises(AudioError, match="^not audio$"):
        decode(tmp_path / name)


def test_names_that_ffmpeg_would_take_for_something_else(tmp_path, monkeypatch, stereo):
    write_ffmpeg(tmp_path / "a.m4a", stereo, RATE, "aac")
    (tmp_path / "a.m4a").rename(tmp_path / "concat:a|b.m4a")
    monkeypatch.chdir(tmp_path)
    assert decode("concat:a|b.m4a")[1] == RATE


@pytest.mark.parametrize("ending", [b".wav", b".m4a"])
def test_names_of_strange_bytes(tmp_path, stereo, ending):
    if ending == b".wav":
        soundfile.write(tmp_path / "a", stereo.T, RATE, format="WAV")
    else:
        write_ffmpeg(tmp_path / "a", stereo, RATE, "aac", format="mp4")
    try:
        (tmp_path / "a").rename(tmp_path / os.fsdecode(b"caf\xe9 \xff" + ending))
    except OSError:
        pytest.skip("the file system takes text alone")
    (path,) = find_audio(tmp_path)
    assert decode(path)[0].shape[0] == 2


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert find_audio(tmp_path) == []
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(AudioError, match="^not a file$"):
            decode(path)


def test_load_is_the_mean_of_the_channels(tmp_path, stereo):
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load(tmp_path / "a.wav", RATE), stereo.mean(axis=0))
    assert load(tmp_path / "a.wav", 40000).shape == (400000,)


def test_find_audio(tmp_path):
    for name in [
        "b.WAV",
        "a.mp3",
        "sub/c.flac",
        "notes.txt",
        ".hidden.wav",
        ".git/x.wav",
        "._b.wav",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_audio(tmp_path)] == [
        "a.mp3",
        "b.WAV",
        "sub/c.flac",
    ]
    with pytest.raises(UserError, match="not a folder"):
        find_audio(tmp_path / "a.mp3")


def test_find_audio_follows_links_but_never_in_circles(tmp_path):
    (tmp_path / "root" / "speaker" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("root/speaker/a.wav", "root/speaker/deep/b.wav", "elsewhere/c.wav"):
        (tmp_path / name).touch()
    (tmp_path / "root" / "speaker" / "deep" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "self").symlink_to(tmp_path / "root" / "self")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "root" / "speaker")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "file.wav").symlink_to(tmp_path / "elsewhere" / "c.wav")
    (tmp_path / "root" / "broken.wav").symlink_to(tmp_path / "gone.wav")
    found = [
        path.relative_to(tmp_path / "root").as_posix() for path in find_audio(tmp_path / "root")
    ]
    assert found == ["file.wav", "linked/c.wav", "speaker/a.wav", "speaker/deep/b.wav"]
