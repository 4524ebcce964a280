"""Saving: every format, every option, every refusal of the disk."""

import resource

import av
import numpy as np
import pytest
import soundfile

from rvc_jax.audio import writing
from rvc_jax.audio.filters import resampled_length
from rvc_jax.audio.reading import decode
from rvc_jax.audio.writing import EncodingOptions, Writer, save
from rvc_jax.errors import UserError

RATE = 16000


@pytest.mark.parametrize(
    ("ending", "error"),
    [(".wav", 1e-4), (".flac", 1e-4), (".ogg", 0.3), (".mp3", 0.3), (".WAV", 1e-4)],
)
def test_save_and_read_back(tmp_path, stereo, ending, error):
    path = tmp_path / f"out é{ending}"
    save(path, stereo[0], RATE)
    wave, rate = decode(path)
    assert rate == RATE and wave.shape == (1, stereo.shape[1])
    assert np.abs(wave[0] - stereo[0]).max() < error
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save_scales_peaks_down(tmp_path):
    wave = np.sin(np.arange(RATE) / 20).astype(np.float32)
    save(tmp_path / "loud.wav", 3 * wave, RATE)
    assert np.abs(decode(tmp_path / "loud.wav")[0]).max() == pytest.approx(0.99, abs=1e-4)
    save(tmp_path / "full.wav", wave, RATE)
    assert np.abs(decode(tmp_path / "full.wav")[0][0] - wave).max() < 1e-4


def test_mp3_at_an_unsupported_rate(tmp_path, stereo):
    save(tmp_path / "voice.mp3", stereo[0], 40000)
    wave, rate = decode(tmp_path / "voice.mp3")
    assert rate == 44100 and wave.shape[1] == pytest.approx(4 * rate, abs=1)


def test_a_long_ogg_does_not_crash(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000 * 600).astype(np.float32)
    save(tmp_path / "long.ogg", noise, 8000)
    assert soundfile.info(tmp_path / "long.ogg").frames == len(noise)


def test_save_refuses(tmp_path, stereo):
    with pytest.raises(UserError, match=r"cannot write \.xyz; use \.wav, \.flac, \.ogg, \.mp3"):
        save(tmp_path / "a.xyz", stereo[0], RATE)
    with pytest.raises(UserError, match="NaN"):
        save(tmp_path / "a.wav", np.full(10, np.nan, np.float32), RATE)
    with pytest.raises(UserError, match="No such file or directory"):
        save(tmp_path / "gone" / "a.wav", stereo[0], RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", writing.SAVE_FORMATS)
def test_a_full_disk_leaves_nothing_behind(tmp_path, stereo, ending):
    """A limit on the size of files stands in for the disk: the same refusal, in the middle of a
    write."""
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"what was there before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UserError, match="cannot be written: File too large"):
            save(path, stereo[0], RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", writing.SAVE_FORMATS)
@pytest.mark.parametrize("file_rate", [0, 48000])
def test_blocks_make_the_same_file_as_the_whole(tmp_path, stereo, ending, file_rate):
    rate = 40000
    encoding = EncodingOptions(rate=file_rate)
    save(tmp_path / f"whole{ending}", stereo[0], rate, encoding)
    path = tmp_path / f"blocks{ending}"
    with Writer(path, rate, encoding=encoding) as writer:
        for start, stop in ((0, 1), (1, 1), (1, 7000), (7000, 100_000), (100_000, None)):
            writer.write(stereo[0][start:stop])
            assert not path.exists()
    whole, _ = decode(tmp_path / f"whole{ending}")
    blocks, read_rate = decode(path)
    known = writing.SAVE_FORMATS[ending].rates
    if file_rate:
        expected_rate = file_rate
    elif ending == ".opus":
        expected_rate = 48000
    else:
        expected_rate = 44100 if known else 40000
    assert read_rate == writer.rate == expected_rate
    assert writer.samples == resampled_length(stereo.shape[1], rate, read_rate)
    padding = {".m4a": 1024, ".aac": 2048}.get(ending, 0)  # of AAC's frames
    assert abs(blocks.shape[1] - writer.samples) <= padding
    # Vorbis adapts its noise to the blocks that it gets.
    tolerance = 0.05 if ending == ".ogg" else 1e-6
    assert blocks.shape == whole.shape and np.abs(blocks - whole).max() < tolerance
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["blocks", "whole"]


@pytest.mark.parametrize("ending", [".wav", ".mp3"])
def test_an_aborted_file_leaves_what_was_there(tmp_path, stereo, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"before")
    with pytest.raises(KeyError), Writer(path, RATE) as writer:
        writer.write(stereo[0])
        raise KeyError
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_two_channels_and_bit_depths(tmp_path, stereo):
    for ending, depth, error in (
        (".wav", "24", 2e-7),
        (".flac", "24", 2e-7),
        (".wav", "float", 0),
    ):
        path = tmp_path / f"{depth}{ending}"
        with Writer(path, RATE, 2, EncodingOptions(bit_depth=depth)) as writer:
            writer.write(stereo)
        wave, rate = decode(path)
        assert (
            rate == RATE and wave.shape == stereo.shape and np.abs(wave - stereo).max() <= error
        )
    with Writer(
        tmp_path / "loud.wav", RATE, encoding=EncodingOptions(bit_depth="float")
    ) as writer:
        writer.write(np.full(100, 1.5, np.float32))
    assert decode(tmp_path / "loud.wav")[0].max() == 1.5
    with Writer(tmp_path / "loud.wav", RATE) as writer:
        writer.write(np.full(100, 1.5, np.float32))
    assert decode(tmp_path / "loud.wav")[0].min() > 0.999


@pytest.mark.parametrize("ending", [".mp3", ".m4a", ".aac", ".opus"])
def test_the_bit_rate_is_the_one_asked_for(tmp_path, ending):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 4 * 48000).astype(np.float32)
    sizes = []
    for bit_rate in (32, 96):
        save(tmp_path / f"a{ending}", noise, 48000, EncodingOptions(bit_rate=bit_rate))
        sizes.append((tmp_path / f"a{ending}").stat().st_size * 8 / 4 / 1000)
    assert sizes == pytest.approx([32, 96], rel=0.35) and sizes[1] > 2 * sizes[0]


def test_an_mp3_of_few_bits_is_the_same_for_every_decoder(tmp_path, stereo):
    path = tmp_path / "a.mp3"
    save(path, np.repeat(stereo[0], 3), 48000, EncodingOptions(bit_rate=32))
    with av.open(str(path)) as container:
        by_ffmpeg = np.concatenate(
            [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        )
    by_libsndfile = soundfile.read(path)[0]
    assert len(by_libsndfile) == len(by_ffmpeg) == 3 * stereo.shape[1]
    assert np.abs(by_libsndfile - by_ffmpeg).max() < 1e-4


@pytest.mark.parametrize(
    ("ending", "encoding", "message"),
    [
        (
            ".flac",
            EncodingOptions(bit_depth="float"),
            r"\.flac files have no bit depth float; \.wav files have",
        ),
        (
            ".mp3",
            EncodingOptions(bit_depth="24"),
            r"\.mp3 files have no bit depth 24; \.wav, \.flac files have",
        ),
        (
            ".wav",
            EncodingOptions(bit_rate=96),
            r"\.wav files have no bit rate to choose; \.mp3, \.m4a, \.aac, \.opus files",
        ),
        (".ogg", EncodingOptions(bit_rate=96), r"\.ogg files have no bit rate to choose"),
        (
            ".mp3",
            EncodingOptions(bit_rate=999),
            r"a bit rate of 999 kbit/s is impossible in \.mp3 files: 16 to 320",
        ),
        (
            ".opus",
            EncodingOptions(rate=44100),
            r"44100 Hz is impossible in \.opus files; use one of 8000, 12000",
        ),
    ],
)
def test_impossible_encodings(tmp_path, stereo, ending, encoding, message):
    with pytest.raises(UserError, match=message):
        save(tmp_path / f"a{ending}", stereo[0], RATE, encoding)
    assert not list(tmp_path.iterdir())


def test_a_wav_too_long_for_its_header_is_refused(tmp_path, monkeypatch, stereo):
    monkeypatch.setattr("rvc_jax.audio.writing._WAV_BYTES", 50_000)
    with pytest.raises(
        UserError, match=r"longer than the 4 GiB that a \.wav file holds; write \.flac"
    ):
        save(tmp_path / "a.wav", stereo[0], RATE)
    assert not list(tmp_path.iterdir())


def decoded_level(path):
    """The level of the middle half of a file, in dB of full scale, as ffmpeg decodes it."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        frames = [out for frame in container.decode(stream) for out in planar.resample(frame)]
    wave = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[0]
    middle = wave[len(wave) // 4 : len(wave) * 3 // 4]
    return 10 * np.log10(np.square(middle, dtype=np.float64).mean())


@pytest.mark.parametrize(
    ("ending", "bit_rates"),
    [
        (".wav", [0]),
        (".flac", [0]),
        (".ogg", [0]),
        (".mp3", [0, 32, 128, 176, 192, 200, 224, 320]),
        (".m4a", [0, 192]),
        (".aac", [0, 192]),
        (".opus", [0, 64, 128]),
    ],
)
def test_the_level_is_that_of_the_sound_in_every_format(tmp_path, ending, bit_rates):
    path = tmp_path / f"tone{ending}"
    for rate in writing.SAVE_FORMATS[ending].rates or (8000, 16000, 40000, 44100, 96000):
        tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(rate // 2) / rate)
        for bit_rate in bit_rates if rate in (16000, 48000) else [0]:
            save(path, tone, rate, EncodingOptions(bit_rate=bit_rate))
            level = decoded_level(path)
            assert abs(level - 10 * np.log10(0.125)) < 0.1, (rate, bit_rate, level)


def test_an_mp3_of_full_scale_does_not_clip(tmp_path):
    tone = 0.99 * np.sin(2 * np.pi * 500 * np.arange(48000) / 48000)
    save(tmp_path / "loud.mp3", np.stack([tone, tone]), 48000)
    assert decoded_level(tmp_path / "loud.mp3") == pytest.approx(-3.1, abs=0.1)


@pytest.mark.parametrize("rate", [65535, 65540, 96000, 192000])
def test_flac_holds_these_rates(tmp_path, stereo, rate):
    save(tmp_path / "a.flac", stereo[0], rate, EncodingOptions(rate=rate))
    assert decode(tmp_path / "a.flac")[1] == rate


@pytest.mark.parametrize("rate", [65536, 96001, 191999])
def test_flac_refuses_rates_that_it_cannot_state(tmp_path, stereo, rate):
    with pytest.raises(UserError, match=f"{rate} Hz is impossible in .flac files: .* of 10"):
        writing.check_encoding(".flac", EncodingOptions(rate=rate))
    # The rate of the sound itself gives way, as it does where a format has few rates.
    save(tmp_path / "a.flac", stereo[0], rate)
    assert decode(tmp_path / "a.flac")[1] == -(-rate // 10) * 10
