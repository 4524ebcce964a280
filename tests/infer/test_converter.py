"""Conversion of whole recordings with small voices."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import MICRO
from untrained_voices import make_converter, untrained_voice, with_weights

from rvc_jax.audio.loudness import rms
from rvc_jax.audio.reading import decode, load
from rvc_jax.config import ConvertConfig
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.features.content import ContentEncoder, load_content_encoder
from rvc_jax.features.f0 import PitchExtractor, load_pitch_extractor
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.infer import converter as converter_module
from rvc_jax.infer.chunking import CONTEXT_FRAMES, plan_chunks
from rvc_jax.infer.compiled_voice import draw_noise
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.recording import Source, prepare_input
from rvc_jax.infer.recording_features import RecordingFeatures
from rvc_jax.models.precision import compute_dtype
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.model import VoiceModel


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)


@pytest.fixture(scope="module")
def converter() -> Converter:
    return make_converter(untrained_voice(), ConvertConfig())


@pytest.fixture(scope="module")
def micro() -> Converter:
    return make_converter(untrained_voice(MICRO), ConvertConfig(), (336,))


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> VoiceModel:
    return VoiceModel.from_run(RunFolder.open(tiny_run))


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    """Level of an error below a reference, whose constant part does not count: fresh networks have
    a large one."""
    return float(
        20 * np.log10(np.linalg.norm(error) / np.linalg.norm(reference - reference.mean()))
    )


@pytest.fixture(scope="module")
def long_clip() -> np.ndarray:
    """32 seconds of real speech."""
    files = sorted(find_bundled_sample("voice").glob("*.flac"))
    return np.concatenate([load(file, 16000) for file in files[:8]])[: 32 * 16000 + 77]


def test_chunks_equal_one_pass(long_clip: np.ndarray, trained: VoiceModel) -> None:
    """The two agree everywhere, with noise and retrieval, and no join has a step in energy."""
    config = ConvertConfig()
    one_pass, in_chunks = (
        make_converter(trained, config, shapes).convert_array(long_clip, 16000)
        for shapes in ((3312,), (336,))
    )
    assert len(one_pass) == len(long_clip) and len(plan_chunks(3202, (3312,))) == 1
    assert decibels(in_chunks - one_pass, one_pass) < -50
    for chunk in plan_chunks(3202, (336,))[1:]:
        join = chunk.begin * 160
        error = (in_chunks - one_pass)[join - 320 : join + 320]
        assert np.abs(error).max() < 0.01 * np.abs(one_pass).max()
        steps = [_step(wave, join) for wave in (in_chunks, one_pass)]
        assert abs(steps[0] - steps[1]) < 0.1


def _step(wave: np.ndarray, sample: int) -> float:
    """Decibels by which the 20 ms behind a sample are louder than those before it."""
    before = wave[sample - 320 : sample]
    behind = wave[sample : sample + 320]
    return float(
        20 * np.log10((np.linalg.norm(behind) + 1e-3) / (np.linalg.norm(before) + 1e-3))
    )


def test_a_short_recording_equals_the_plain_network(
    clip: np.ndarray, trained: VoiceModel
) -> None:
    """Up to a window of training, nothing but the plain network, with reflected margins; the gate
    is open."""
    converter = make_converter(
        trained, ConvertConfig(noise_scale=0, index_rate=0, silence_db=-300)
    )
    audio = clip[16000 : 16000 + 330 * 160]
    features = RecordingFeatures(
        prepare_input(Source.from_array(audio, 16000), trained.prepare, -300),
        *extractors(trained),
    )
    content = np.repeat(features.content(0), 2, axis=0)[: features.count].astype(np.float32)
    source_key = jax.random.split(jax.random.key(0))[1]
    noise = draw_noise(source_key, jnp.arange(features.count), 160).reshape(1, -1)
    network = trained.network()
    parameters = network.from_public(trained.weights)
    plain = jax.jit(lambda *args: network(parameters, "infer", *args, None, noise))
    f0 = jnp.asarray(features.f0)[None]
    speaker = jnp.zeros(1, int)
    lengths = jnp.full(1, features.count)
    dtype = compute_dtype(trained.precision)
    expected = plain(content[None].astype(dtype), lengths, coarse_pitch(f0), f0, speaker)
    expected = np.asarray(expected)[0, CONTEXT_FRAMES * 160 :][: len(audio)]
    assert decibels(converter.convert_array(audio, 16000) - expected, expected) < -50


def extractors(voice: VoiceModel) -> tuple[PitchExtractor, ContentEncoder]:
    pitch = load_pitch_extractor(voice.prepare.resolved().f0_method)
    return pitch, load_content_encoder(voice.content_encoder)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [(1, 48000), (160, 16000), (441, 44100), (44101, 44100), (30001, 22050), (100003, 48000)],
)
def test_length_is_exact(micro: Converter, samples: int, rate: int) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    converted = micro.convert_array(wave, rate)
    assert len(converted) == round(samples * 16000 / rate) and np.isfinite(converted).all()


def test_silent_chunks_are_skipped(
    clip: np.ndarray, micro: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = np.concatenate(
        [clip[8000:24000], np.zeros(12 * 16000, np.float32), clip[24000:60000]]
    )
    rendered = []
    render = micro.engine.voice.render
    monkeypatch.setattr(
        micro.engine.voice,
        "render",
        lambda *args, **kwargs: rendered.append(args[3]) or render(*args, **kwargs),
    )
    skipping = micro.convert_array(paused, 16000)
    skipped = len(rendered)
    monkeypatch.setattr(converter_module, "is_silent", lambda gate, chunk: False)
    np.testing.assert_array_equal(micro.convert_array(paused, 16000), skipping)
    assert 2 * skipped < len(rendered) and np.abs(skipping).max() > 1e-3


def test_whispering_is_converted(micro: Converter) -> None:
    random = np.random.default_rng(3)
    whisper = (
        0.02 * random.standard_normal(32000) * np.abs(np.sin(np.arange(32000) / 3000))
    ).astype(np.float32)
    converted = micro.with_config(ConvertConfig(auto_transpose=True)).convert_array(
        whisper, 16000
    )
    assert np.isfinite(converted).all() and np.std(converted) > 1e-4


def test_the_stereo_side_is_kept(micro: Converter, clip: np.ndarray) -> None:
    left = 0.3 * clip[:32000]
    right = 0.3 * np.roll(clip, 4000)[:32000]
    mono = micro.convert_array(np.stack([left, right]), 16000)
    keeping = micro.with_config(ConvertConfig(stereo="keep-side"))
    both = keeping.convert_array(np.stack([left, right]), 16000)
    assert mono.ndim == 1 and both.shape == (2, 32000)
    np.testing.assert_allclose((both[0] + both[1]) / 2, mono, atol=1e-6)
    np.testing.assert_allclose(both[0] - both[1], left - right, atol=1e-6)
    assert keeping.convert_array(left, 16000).ndim == 1


def test_speakers_can_be_mixed(clip: np.ndarray) -> None:
    voice = untrained_voice(MICRO, speakers=("one", "two"), median_f0=(100.0, 200.0))
    table = 500 * voice.weights["emb_g.weight"]
    voice = with_weights(voice, {"emb_g.weight": table})
    converter = make_converter(voice, ConvertConfig())
    short = clip[:30000]
    one, two, only = (
        converter.with_config(config).convert_array(short, 16000)
        for config in (
            ConvertConfig(),
            ConvertConfig(speaker=1),
            ConvertConfig(speaker_mix="1:3"),
        )
    )
    np.testing.assert_array_equal(two, only)
    assert decibels(one - two, one) > -40
    mixed = converter.with_config(ConvertConfig(speaker_mix="0:0.6, 1:0.2"))
    np.testing.assert_allclose(
        mixed.engine.speaker[0], 0.75 * table[0] + 0.25 * table[1], rtol=1e-5
    )
    assert decibels(mixed.convert_array(short, 16000) - one, one) < decibels(two - one, one)


def test_a_second_recording_compiles_nothing(converter: Converter, clip: np.ndarray) -> None:
    converter = converter.with_config(ConvertConfig())
    converter.convert_array(clip, 16000)
    converter.convert_array(clip[:20000], 16000)
    compiled = []

    def listener(event: str, seconds: float, **_: object) -> None:
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        converter.convert_array(clip[:45000], 16000)
        converter.convert_array(clip[3000:100001], 22050)
        other = converter.with_config(
            ConvertConfig(
                transpose=-3.5,
                noise_scale=0.1,
                seed=7,
                protect=0.1,
                volume_envelope=0.5,
                speaker_mix="0:2",
            )
        )
        assert len(other.convert_array(clip[:90000], 16000)) == 90000
        assert compiled == []
        jax.jit(lambda x: x * 3.25 + len(compiled))(1.0)
        assert compiled != []  # the listener is called for compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_channels_are_mixed_and_the_seed_matters(clip: np.ndarray) -> None:
    short = clip[:30000]
    voice = untrained_voice()
    one = make_converter(voice, ConvertConfig()).convert_array(short, 16000)
    same = make_converter(voice, ConvertConfig()).convert_array(
        np.stack([short * 2, short * 0]), 16000
    )
    other = make_converter(voice, ConvertConfig(seed=1)).convert_array(short, 16000)
    assert decibels(one - same, one) < -80
    assert decibels(one - other, one) > -40


def test_silence_stays_silent(converter: Converter, clip: np.ndarray) -> None:
    assert np.abs(converter.convert_array(np.zeros(32000, np.float32), 16000)).max() < 1e-3
    paused = np.concatenate([clip[8000:24000], np.zeros(24000, np.float32), clip[24000:40000]])
    converted = converter.convert_array(paused, 16000)
    assert np.abs(converted[21000:35000]).max() < 1e-3
    assert np.abs(converted[:16000]).max() > 1e-3


def test_automatic_transpose_meets_the_voice(trained: VoiceModel, clip: np.ndarray) -> None:
    def transposed(**options: object) -> float:
        source = Source.from_array(clip[:48000], 16000)
        return make_converter(trained, ConvertConfig(**options)).convert(source).transpose

    assert 180 < trained.median_f0[0] < 220  # Callie
    up = transposed(auto_transpose=True)
    assert 9 <= up <= 14 and up == round(up)
    assert transposed(auto_transpose=True, transpose=2.5) == up + 2.5
    assert transposed() == 0


def test_volume_envelope_follows_the_recording(clip: np.ndarray) -> None:
    swelling = clip * np.linspace(0.05, 1, len(clip), dtype=np.float32)
    converted = make_converter(
        untrained_voice(), ConvertConfig(volume_envelope=0)
    ).convert_array(swelling, 16000)
    levels = [rms(wave, 32000, 16000)[1:-1] for wave in (swelling, converted)]
    assert np.corrcoef(*levels)[0, 1] > 0.95


def test_retrieval_changes_the_result(trained: VoiceModel, clip: np.ndarray) -> None:
    short = clip[:30000]
    waves = [
        make_converter(trained, ConvertConfig(index_rate=rate)).convert_array(short, 16000)
        for rate in (0, 0.001, 1)
    ]
    slight, whole = (decibels(wave - waves[0], waves[0]) for wave in waves[1:])
    assert slight + 20 < whole


def test_loud_results_are_limited(clip: np.ndarray) -> None:
    voice = untrained_voice()
    loud = {"dec.conv_post.weight": 300 * voice.weights["dec.conv_post.weight"]}
    voice = with_weights(voice, loud)
    wave = make_converter(voice, ConvertConfig()).convert_array(clip[:30000], 16000)
    assert 0.9 < np.abs(wave).max() <= 0.99 + 1e-6


def test_bad_recordings_are_refused(converter: Converter, other_clip: Path) -> None:
    wave, rate = decode(other_clip)
    with pytest.raises(UserError, match="there is no sample in it"):
        converter.convert_array(wave[:, :0], rate)
    broken = wave.copy()
    broken[0, 5] = np.nan
    with pytest.raises(UserError, match="1 of 113600 samples are not numbers"):
        converter.convert_array(broken, rate)


@pytest.mark.parametrize(
    "setting", [{"protect": 0.6}, {"index_rate": -1}, {"speaker": 1}, {"volume_envelope": 2}]
)
def test_options_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(
        UserError, match=f"--{next(iter(setting)).replace('_', '-')} .* out of range"
    ):
        make_converter(untrained_voice(), ConvertConfig(**setting))


@pytest.mark.parametrize(
    "mixture",
    ["0", "0:x", "0:1,0:2", "0:0", "0:-1,1:2", "0:nan", "0:inf", "a:1", ",", "0:1;1:1"],
)
def test_bad_speaker_mixes_are_refused(mixture: str) -> None:
    with pytest.raises(UserError, match="is not a mixture: write numbers of speakers"):
        make_converter(
            untrained_voice(MICRO, speakers=("one", "two")), ConvertConfig(speaker_mix=mixture)
        )
    with pytest.raises(UserError, match="there is no speaker 2, only 0 to 1"):
        make_converter(
            untrained_voice(MICRO, speakers=("one", "two")),
            ConvertConfig(speaker_mix="0:1,2:1"),
        )


def test_another_content_encoder_is_refused() -> None:
    with pytest.raises(
        UserError,
        match="whisper-tiny is not the content encoder that this voice was trained with",
    ):
        make_converter(untrained_voice(content_fingerprint="0123"), ConvertConfig())
