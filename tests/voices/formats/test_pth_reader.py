"""Voices of all the tools are read, whatever their files leave out or spell differently."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from public_files import (
    TUPLES_OF_TUPLES,
    Call,
    applio,
    checkpoint,
    classic,
    folded,
    new_names,
    small_voice,
    write,
)
from voice_refusal import refusal

from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.voices.formats import native, pth_reader
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import torch_file

PUBLIC = [name for name in PRESETS if name not in ("nano", "small")]
SAMPLE_RATE = "ultimate_rvc.typing_extra.TrainingSampleRate"


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice()


def assert_same(found: VoiceModel, expected: VoiceModel, tolerance: float = 0) -> None:
    """Sizes and weights; a posterior encoder that is not there has no size."""
    sizes = found.generator
    if not found.has_posterior:
        sizes = dataclasses.replace(sizes, posterior_layers=expected.generator.posterior_layers)
    assert (sizes, found.audio, found.version) == (
        expected.generator,
        expected.audio,
        expected.version,
    )
    assert set(found.weights) == set(expected.weights)
    for name, array in expected.weights.items():
        assert found.weights[name].dtype == np.float32
        np.testing.assert_allclose(
            found.weights[name], array, rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("has_pitch", [True, False])
@pytest.mark.parametrize("preset", PUBLIC)
def test_every_format_is_read_whole_from_voices_and_checkpoints(
    tmp_path: Path, preset: str, has_pitch: bool
) -> None:
    trained = small_voice(preset, posterior=True, has_pitch=has_pitch)
    expected = trained.without_posterior()
    assert_same(pth_reader.read(write(tmp_path / "a.pth", classic(expected))), expected, 1e-3)
    found = pth_reader.read(write(tmp_path / "G_2333333.pth", checkpoint(trained)))
    assert_same(found, trained)
    assert found.facts["epoch"] == 7 and found.facts["kind"] == pth_reader.CHECKPOINT


def test_native_files_keep_everything(tmp_path: Path) -> None:
    trained = small_voice(
        "nano", posterior=True, resblock_kernels=(3, 7), resblock_dilations=((1, 3), (1, 3))
    )
    found = dataclasses.replace(
        trained, content_encoder="whisper-tiny", content_fingerprint="ab", facts={"epoch": 7}
    )
    native.write(
        tmp_path / "a.safetensors", dataclasses.replace(found, speakers=("Ada", "Bo", "Cy"))
    )
    again = native.read(tmp_path / "a.safetensors")
    assert_same(again, trained)
    assert again.speakers == ("Ada", "Bo", "Cy") and again.facts["epoch"] == 7
    assert (again.content_encoder, again.content_fingerprint) == ("whisper-tiny", "ab")


def with_rate(voice: VoiceModel, rate: Any) -> dict[str, Any]:
    return classic(voice, config=[*to_config_list(voice)[:-1], rate])


def with_weights(voice: VoiceModel, change: Callable[[dict], dict]) -> dict[str, Any]:
    return classic(voice, weight=change(dict(voice.weights)))


def converted(dtype: Any) -> Callable[[dict], dict]:
    return lambda weights: {name: array.astype(dtype) for name, array in weights.items()}


ODD: dict[str, Callable[[VoiceModel], Any]] = {
    "Applio": applio,
    "no key for the pitch": lambda voice: classic(voice, f0=None),
    "no version": lambda voice: classic(voice, version=None),
    "another version than its weights": lambda voice: classic(voice, version="v1"),
    "a version that is none": lambda voice: classic(voice, version=[1]),
    "pitch as a text": lambda voice: classic(voice, f0="1"),
    "pitch denied": lambda voice: classic(voice, f0=0),
    "no sr": lambda voice: classic(voice, sr=None),
    "sr of another rate": lambda voice: classic(voice, sr="48k"),
    "a rate of 40k": lambda voice: with_rate(voice, "40k"),
    "a rate in digits": lambda voice: with_rate(voice, "40000"),
    "a rate with a point": lambda voice: with_rate(voice, 40000.0),
    "no rate in the config, but in sr": lambda voice: with_rate(voice, ""),
    "a rate as an enumeration": lambda voice: with_rate(voice, Call(SAMPLE_RATE, (40000,))),
    "a rate as an enumeration's name": lambda voice: with_rate(
        voice, Call("builtins.getattr", (Call(SAMPLE_RATE, None), "HZ_40K"))
    ),
    "a rate of NumPy's": lambda voice: with_rate(
        voice,
        Call(
            "numpy.core.multiarray.scalar",
            (
                Call("numpy.dtype", ("i8", False, True)),
                Call(
                    "_codecs.encode", ((40000).to_bytes(8, "little").decode("latin1"), "latin1")
                ),
            ),
        ),
    ),
    "Ultimate RVC": lambda voice: applio(
        voice,
        sr=Call(SAMPLE_RATE, (40000,)),
        embedder_model=Call("ultimate_rvc.typing_extra.Model", ("contentvec",)),
        vocoder=Call("ultimate_rvc.typing_extra.Vocoder", ("HiFi-GAN",)),
        overtrain_info="100",
    ),
    "a config in a tuple": lambda voice: classic(voice, config=tuple(to_config_list(voice))),
    "a config with 109 speakers": lambda voice: classic(
        voice, config=[*to_config_list(voice)[:15], 109, *to_config_list(voice)[16:]]
    ),
    "a residual block of number 1": lambda voice: classic(
        voice, config=[*to_config_list(voice)[:9], 1, *to_config_list(voice)[10:]]
    ),
    "float32": lambda voice: with_weights(voice, dict),
    "bfloat16": lambda voice: with_weights(voice, converted(ml_dtypes.bfloat16)),
    "float64": lambda voice: with_weights(voice, converted(np.float64)),
    "the new names of weight norms": lambda voice: with_weights(voice, new_names),
    "weight norms multiplied out": lambda voice: with_weights(voice, folded),
    "weights of several devices": lambda voice: with_weights(
        voice, lambda weights: {f"module.{name}": array for name, array in weights.items()}
    ),
    "weights of a compiled network": lambda voice: with_weights(
        voice, lambda weights: {f"_orig_mod.{name}": array for name, array in weights.items()}
    ),
    "no info": lambda voice: classic(voice, info=None),
    "no vocoder": lambda voice: applio(voice, vocoder=None),
    "a vocoder in small letters": lambda voice: applio(
        voice, vocoder="hifi-gan", vits2_mode=False
    ),
    "codename's fork": lambda voice: applio(
        voice, weight=new_names(voice.weights), vocoder_architecture="Fork/Applio"
    ),
    "an older name of the encoder": lambda voice: applio(voice, embedder_model="hubert_base"),
    "keys that nobody knows": lambda voice: classic(
        voice,
        **{
            "path": Call("pathlib.PosixPath", ("/", "home", "ada")),
            "opts": Call("some.program.Options", (1, 2)),
            "deep": [[[[]]]],
            "many": list(range(1000)),
            "\x1b[2J": "\x1b[2J",
            "number": 1 << 100,
        },
    ),
    "a state dict alone": lambda voice: dict(voice.weights),
    "a state dict under a name": lambda voice: {"state_dict": dict(voice.weights)},
    "a pretrained generator": lambda voice: {"model": dict(voice.weights)},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_are_read(tmp_path: Path, voice: VoiceModel, case: str) -> None:
    found = pth_reader.read(write(tmp_path / "Odd näme (1).pth", ODD[case](voice)))
    if case == "weight norms multiplied out":
        voice, found = (
            dataclasses.replace(each, weights=folded(each.weights)) for each in (voice, found)
        )
    assert_same(found, voice, 1e-2 if case == "bfloat16" else 1e-3)
    assert found.content_encoder == "contentvec"
    told = str(found.facts)
    assert told.isprintable() and all(
        type(value) in (str, int, float, bool, list) for value in found.facts.values()
    )


def test_facts_are_those_of_the_file(tmp_path: Path, voice: VoiceModel) -> None:
    assert pth_reader.read(write(tmp_path / "bo.pth", classic(voice))).facts == {
        "kind": "voice",
        "name": "bo",
        "epoch": 120,
        "info": "120epoch",
        "sr": "40k",
    }
    facts = pth_reader.read(write(tmp_path / "bo.pth", applio(voice))).facts
    assert (facts["name"], facts["epoch"], facts["step"], facts["author"]) == (
        "ada",
        200,
        12345,
        "someone",
    )


@pytest.mark.parametrize(("told", "speakers"), [(None, 3), (2, 2), (9, 3), (0, 3), ("two", 3)])
def test_number_of_speakers(
    tmp_path: Path, voice: VoiceModel, told: Any, speakers: int
) -> None:
    path = write(tmp_path / "a.pth", applio(voice, speakers_id=told))
    assert pth_reader.read(path).speakers == ("",) * speakers


def test_other_rates_of_the_same_vocoder(tmp_path: Path) -> None:
    voice = small_voice("40k", upsample_rates=(10, 6, 2, 2), upsample_kernels=(20, 12, 4, 4))
    audio = dataclasses.replace(voice.audio, sample_rate=24000, n_fft=1024)
    voice = dataclasses.replace(voice, audio=audio)
    found = pth_reader.read(write(tmp_path / "a.pth", classic(voice)))
    assert (found.audio.sample_rate, found.audio.hop, found.audio.n_fft) == (24000, 240, 1024)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("spin_v2", "spin-v2"),
        ("chinese-hubert-base", "chinese-hubert-base"),
        ("Japanese-HuBERT-base", "japanese-hubert-base"),
        ("hubert_base768", "contentvec"),
        ("custom", "custom"),
        (
            r"C:\Users\Ana\embedders_custom\My_Hubert",
            r"C:\Users\Ana\embedders_custom\My_Hubert",
        ),
        ("rvc/models/embedders/embedders_custom/声 Hubert",) * 2,
    ],
)
def test_the_content_encoder_is_the_file_s(
    tmp_path: Path, voice: VoiceModel, told: str, known: str
) -> None:
    path = write(tmp_path / "a.pth", applio(voice, embedder_model=told))
    assert pth_reader.read(path).content_encoder == known


def test_a_checkpoint_that_could_be_of_two_presets_needs_one_named(tmp_path: Path) -> None:
    voice = small_voice("48k-v1", has_pitch=False)
    path = write(tmp_path / "G.pth", {"model": dict(voice.weights)})
    with pytest.raises(
        UserError,
        match="could be of 48k-v1 and of 32k-v1: say which with `rvc-jax import --preset`",
    ):
        pth_reader.read(path)
    assert pth_reader.read(path, preset="48k-v1").audio == voice.audio
    assert pth_reader.read(path, preset="32k-v1").audio.sample_rate == 32000
    with pytest.raises(
        UserError, match="it is not of --preset 40k-v1: it is of 48k-v1, 32k-v1"
    ):
        pth_reader.read(path, preset="40k-v1")
    with pytest.raises(UserError, match="there is no preset 44k"):
        pth_reader.read(path, preset="44k")


def test_a_discriminator_comes_with_its_generator(
    tmp_path: Path, voice: VoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    nano = PRESETS["nano"]
    sizes = {
        "v1": dataclasses.replace(nano.discriminator, periods=(2,)),
        "v2": nano.discriminator,
    }
    alike = {
        v: dataclasses.replace(nano, version=v, discriminator=config)
        for v, config in sizes.items()
    }
    monkeypatch.setattr(pth_reader, "PRESETS", alike)
    shapes = {
        version: Network(Discriminator(config)).public_shapes
        for version, config in sizes.items()
    }
    zeros = {
        version: {name: np.zeros(shape, np.float16) for name, shape in all_.items()}
        for version, all_ in shapes.items()
    }
    path = write(tmp_path / "D.pth", {"model": new_names(zeros["v2"]), "iteration": 1})
    found = pth_reader.read_discriminator(path, voice)
    assert {name: array.shape for name, array in found.items()} == shapes["v2"]
    with pytest.raises(UserError, match="is of version v1, the voice is of v2"):
        pth_reader.read_discriminator(write(tmp_path / "D1.pth", {"model": zeros["v1"]}), voice)
    with pytest.raises(UserError, match="is not a discriminator: it is a generator"):
        pth_reader.read_discriminator(write(tmp_path / "G.pth", checkpoint(voice)), voice)
    with pytest.raises(UserError, match="of other sizes than RVC's"):
        small = {"discriminators.0.convs.0.weight_v": np.zeros((1, 1, 1), np.float32)}
        pth_reader.read_discriminator(write(tmp_path / "D2.pth", {"model": small}), voice)


def test_a_voice_of_full_size_has_its_457_tensors(tmp_path: Path) -> None:
    preset = PRESETS["40k"]
    whole = VoiceModel(preset.generator, preset.audio, "v2", {}).network()
    weights = {name: np.zeros(shape, np.float16) for name, shape in whole.public_shapes.items()}
    model = VoiceModel(preset.generator, preset.audio, "v2", weights)
    assert len(weights) == 457 and to_config_list(model)[15:] == [109, 256, 40000]
    torch_file.write(tmp_path / "real.pth", classic(model))
    found = pth_reader.read(tmp_path / "real.pth")
    assert (found.generator, found.audio, len(found.weights)) == (
        preset.generator,
        preset.audio,
        457,
    )
    assert found.is_rvc_compatible and not found.has_posterior
    assert 27e6 < sum(array.size for array in found.weights.values()) < 28e6


# --- broken voices ---


def array(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def config(voice: VoiceModel, **entries: Any) -> dict[str, Any]:
    """A voice whose config has other entries, by their numbers."""
    values = to_config_list(voice)
    for number, value in entries.items():
        values[int(number[1:])] = value
    return classic(voice, config=values)


def weights(voice: VoiceModel, without: str = "", **changes: Any) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in voice.weights.items()
        if not (without and name.startswith(without))
    }
    return classic(
        voice, weight=kept | {name.replace("__", "."): value for name, value in changes.items()}
    )


VOICES: dict[str, tuple[Callable[[VoiceModel], Any], str]] = {
    "RefineGAN": (
        lambda voice: applio(voice, vocoder="RefineGAN"),
        "the vocoder RefineGAN.*opens in",
    ),
    "MRF": (lambda voice: applio(voice, vocoder="MRF HiFi-GAN"), "the vocoder MRF HiFi-GAN"),
    "RingFormer": (
        lambda voice: applio(voice, vocoder="RingFormer_v2"),
        "the vocoder RingFormer_v2",
    ),
    "VITS2": (
        lambda voice: applio(voice, vits2_mode=True),
        r"a fork's own architecture \(vits2_mode\)",
    ),
    "a vocoder's enumeration": (
        lambda voice: applio(
            voice, vocoder=Call("ultimate_rvc.typing_extra.Vocoder", ("RefineGAN",))
        ),
        "RefineGAN",
    ),
    "17 entries": (
        lambda voice: classic(voice, config=to_config_list(voice)[:17]),
        "17 entries, not 18",
    ),
    "no entry": (lambda voice: classic(voice, config=[]), "0 entries, not 18"),
    "blocks of kind 2": (
        lambda voice: config(voice, _9="2"),
        "residual blocks are of kind '2'",
    ),
    "a text for a size": (lambda voice: config(voice, _2="192"), "can't be a size"),
    "a number with a point": (lambda voice: config(voice, _3=8.0), "can't be a size"),
    "a negative size": (lambda voice: config(voice, _3=-8), "can't be a size"),
    "a list for a size": (lambda voice: config(voice, _2=[1]), "can't be a size"),
    "a number for a list": (lambda voice: config(voice, _12=10), "can't be a size"),
    "numbers for lists in a list": (
        lambda voice: config(voice, _11=[1, 2, 3]),
        "can't be a size",
    ),
    "a thousand million layers": (lambda voice: config(voice, _6=10**9), "can't be a size"),
    "a thousand layers": (lambda voice: config(voice, _6=1000), "more layers than any voice"),
    "a number of 100 digits": (lambda voice: config(voice, _3=10**60), "can't be a size"),
    "five heads": (lambda voice: config(voice, _5=5), "heads"),
    "four heads": (lambda voice: config(voice, _5=4), "attention heads 4, its weights have 2"),
    "other channels": (
        lambda voice: config(voice, _3=16),
        "hidden channels 16, its weights have 8",
    ),
    "other kernels": (
        lambda voice: config(voice, _14=[20, 16, 4, 4]),
        "upsample kernels .* its weights have",
    ),
    "other rates": (lambda voice: config(voice, _12=[10, 8, 2, 2]), "does not make 40000 Hz"),
    "rates in another order": (
        lambda voice: config(voice, _12=[10, 2, 10, 2]),
        "is not possible",
    ),
    "an odd rate": (
        lambda voice: config(voice, _12=[16, 5, 5, 1], _14=[16, 15, 15, 1]),
        "upsample kernels .* its weights have",
    ),
    "no rates": (lambda voice: config(voice, _12=[], _14=[]), "is not possible"),
    "other dilations": (
        lambda voice: config(voice, _11=[[1, 3]] * 3),
        "parts that RVC's network lacks",
    ),
    "an unknown rate": (lambda voice: config(voice, _17=11025), "does not make 11025 Hz"),
    "no rate at all": (
        lambda voice: classic(voice, sr=None, config=[*to_config_list(voice)[:17], None]),
        "can't be a size",
    ),
    "a layer is missing": (
        lambda voice: weights(voice, "dec.ups.1."),
        "layers are not numbered",
    ),
    "the last layer is missing": (
        lambda voice: weights(voice, "dec.ups.3."),
        "its weights have",
    ),
    "a bias is missing": (
        lambda voice: weights(voice, "enc_p.proj.bias"),
        "not whole: enc_p.proj.bias is missing",
    ),
    "the speakers are missing": (
        lambda voice: weights(voice, "emb_g."),
        "it has no emb_g.weight",
    ),
    "half of the pitch is missing": (
        lambda voice: weights(voice, "dec.m_source"),
        "not whole: dec.m_source",
    ),
    "something more": (
        lambda voice: weights(voice, dec__extra=array(1)),
        r"a vocoder that is not known here \(it has dec.extra\)",
    ),
    "a layer of another shape": (
        lambda voice: weights(voice, dec__conv_post__weight=array(1, 2, 5)),
        r"\(1, 2, 5\), not \(1, 2, 7\)",
    ),
    "a table with one dimension": (
        lambda voice: weights(voice, emb_g__weight=array(3)),
        "1 dimensions, not 2",
    ),
    "a number that is none": (
        lambda voice: weights(voice, enc_p__proj__bias=np.full(8, np.nan, np.float32)),
        "8 of its numbers are not",
    ),
    "infinity": (
        lambda voice: weights(voice, enc_p__proj__bias=np.full(8, np.inf, np.float16)),
        "are not finite",
    ),
    "whole numbers": (
        lambda voice: weights(voice, enc_p__proj__bias=np.zeros(8, np.int64)),
        "is of int64",
    ),
    "complex numbers": (
        lambda voice: weights(voice, enc_p__proj__bias=np.zeros(8, np.complex64)),
        "of complex64",
    ),
    "a checkpoint of no preset": (
        lambda _: checkpoint(small_voice(upsample_kernels=(20, 20, 4, 4))),
        "no preset has its upsampling",
    ),
    "a checkpoint with other blocks": (
        lambda _: checkpoint(small_voice(resblock_kernels=(3,), resblock_dilations=((1,),))),
        "not those of 40k",
    ),
}


@pytest.mark.parametrize("case", VOICES)
def test_broken_voices_are_refused(tmp_path: Path, voice: VoiceModel, case: str) -> None:
    make, message = VOICES[case]
    text = refusal(write(tmp_path / "voice.pth", make(voice)))
    assert re.search(message, text), text


@pytest.mark.parametrize("key", ["version", "speakers_id", "other"])
def test_endless_values_are_refused(tmp_path: Path, voice: VoiceModel, key: str) -> None:
    path = write(tmp_path / "voice.pth", applio(voice, **{key: TUPLES_OF_TUPLES}))
    assert "its lists are nested deeper" in refusal(path)


def test_endless_values_are_not_sizes(tmp_path: Path, voice: VoiceModel) -> None:
    path = write(tmp_path / "voice.pth", config(voice, _2=TUPLES_OF_TUPLES))
    assert "its lists are nested deeper" in refusal(path)


# --- other rates ---


def of_rates(
    rate: int, rates: tuple[int, ...], kernels: tuple[int, ...], n_fft: int = 2048
) -> VoiceModel:
    audio = dataclasses.replace(PRESETS["40k"].audio, sample_rate=rate, n_fft=n_fft)
    sizes = small_voice("40k").generator
    sizes = dataclasses.replace(sizes, upsample_rates=rates, upsample_kernels=kernels)
    empty = VoiceModel(sizes, audio, "v2", {"enc_q.": np.zeros(1)})
    network = empty.network()
    return dataclasses.replace(empty, weights=network.to_public(network.init(1)))


OTHER_RATES = {
    "24 kHz": of_rates(24000, (10, 6, 2, 2), (20, 12, 4, 4), 1024),
    "44.1 kHz of Applio": of_rates(44100, (7, 7, 3, 3), (14, 14, 6, 6)),
    "44.1 kHz of Vietnamese-RVC": of_rates(44100, (8, 8, 2, 2, 2), (16, 16, 4, 4, 4)),
}


@pytest.mark.parametrize("case", OTHER_RATES)
def test_rates_without_a_preset(tmp_path: Path, case: str) -> None:
    """From a voice with its config, and from a checkpoint that has none."""
    voice = OTHER_RATES[case]
    for name, content in (
        ("a.pth", classic(voice.without_posterior())),
        ("G_9.pth", checkpoint(voice)),
    ):
        found = pth_reader.read(write(tmp_path / name, content))
        assert found.generator == dataclasses.replace(
            voice.generator, posterior_layers=found.generator.posterior_layers
        )
        assert found.audio.sample_rate == voice.audio.sample_rate
        assert found.audio.n_fft == voice.audio.n_fft and found.hop == voice.hop


def test_a_rate_that_the_upsampling_does_not_make(tmp_path: Path) -> None:
    for stated, rates, kernels in (
        (40000, (12, 10, 2, 2), (24, 20, 4, 4)),  # makes 48 kHz
        (44100, (10, 10, 2, 2), (16, 16, 4, 4)),  # makes 40 kHz
        (192000, (2, 2), (4, 4)),  # 48,000 frames a second
    ):
        voice = of_rates(stated, rates, kernels).without_posterior()
        with pytest.raises(UserError, match=f"does not make {stated} Hz of 100 frames"):
            pth_reader.read(write(tmp_path / "a.pth", classic(voice)))


@pytest.mark.parametrize(
    ("epoch", "number"), [("200epoch", 200), ("200", 200), ("e7", 7), (3, 3), ("many", None)]
)
def test_epochs_are_numbers(
    tmp_path: Path, voice: VoiceModel, epoch: Any, number: int | None
) -> None:
    path = write(tmp_path / "a.pth", applio(voice, epoch=epoch))
    assert pth_reader.read(path).facts.get("epoch") == number
