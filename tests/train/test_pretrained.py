"""Runs that start from networks somebody trained before: taken where they fit, refused in words
where they don't."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from micro import MICRO_SMALL

from rvc_jax.config import PRESETS, Preset
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.train.networks import build_networks
from rvc_jax.train.pretrained import hash_pretrained_files, load_initial_parameters
from rvc_jax.weights import bundled, safetensors_file, torch_file

NANO = PRESETS["nano"]


def starting_from(preset: Preset = NANO, **recipe: str) -> tuple[dict, dict, list[str]]:
    preset = dataclasses.replace(preset, train=dataclasses.replace(preset.train, **recipe))
    return load_initial_parameters(build_networks(preset, 1))


def generator_file(
    path: Path, half: bool = True, new_names: bool = False, **changes: object
) -> dict[str, np.ndarray]:
    """Writes a generator like nano's with the changes, and returns its arrays by public name."""
    network = build_synthesizer(dataclasses.replace(NANO.generator, **changes), NANO.audio)
    public = network.to_public(network.init(77))
    kind = np.float16 if half else np.float32
    public = {name: value.astype(kind) for name, value in public.items()}
    old = ("weight_g", "weight_v")
    new = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    spelt = {
        name.replace(old[0], new[0]).replace(old[1], new[1]) if new_names else name: value
        for name, value in public.items()
    }
    torch_file.write(path, {"model": spelt, "iteration": 3})
    return public


@pytest.mark.parametrize("new_names", [False, True])
def test_both_networks_are_taken_whatever_the_spelling(tmp_path: Path, new_names: bool) -> None:
    public = generator_file(tmp_path / "G.pth", new_names=new_names)
    network = Network(Discriminator(NANO.discriminator))
    torch_file.write(tmp_path / "D.pth", {"model": network.to_public(network.init(78))})
    files = {
        f"pretrained_{kind}": str(tmp_path / f"{kind[0].upper()}.pth")
        for kind in ("generator", "discriminator")
    }
    generator, discriminator, notes = starting_from(**files)
    back = build_synthesizer(NANO.generator, NANO.audio).to_public(generator)
    assert all(
        np.array_equal(back[name], value.astype(np.float32)) for name, value in public.items()
    )
    assert all(
        np.array_equal(discriminator[name], value) for name, value in network.init(78).items()
    )
    assert len(notes) == 2 and "G.pth" in notes[0] and "scratch" not in "".join(notes)


def test_a_run_remembers_what_it_started_from(tmp_path: Path) -> None:
    generator_file(tmp_path / "G.pth")
    recipe = dataclasses.replace(NANO.train, pretrained_generator=str(tmp_path / "G.pth"))
    digest = hashlib.sha256((tmp_path / "G.pth").read_bytes()).hexdigest()
    assert hash_pretrained_files(dataclasses.replace(NANO, train=recipe)) == {
        "generator": f"G.pth {digest}"
    }
    assert hash_pretrained_files(NANO) == {}


def test_other_speakers_and_other_content_are_said(tmp_path: Path) -> None:
    public = generator_file(tmp_path / "G.pth", speakers=3, content_channels=768)
    generator, _, notes = starting_from(pretrained_generator=str(tmp_path / "G.pth"))
    fresh = build_synthesizer(NANO.generator, NANO.audio).init(NANO.train.seed)
    assert np.array_equal(
        generator["emb_g.weight"][:3], public["emb_g.weight"].astype(np.float32)
    )
    assert np.array_equal(generator["emb_g.weight"][3:], fresh["emb_g.weight"][3:])
    assert np.array_equal(generator["enc_p.emb_phone.weight"], fresh["enc_p.emb_phone.weight"])
    assert "768 channels, this voice's have 384" in notes[0] and "3 speakers" in notes[0]


def test_another_format_is_refused_with_both_names(tmp_path: Path) -> None:
    file = tmp_path / "G.pth"
    arrays = {
        name: np.zeros(shape, np.float16)
        for name, shape in build_synthesizer(
            PRESETS["48k"].generator, PRESETS["48k"].audio
        ).public_shapes.items()
    }
    torch_file.write(file, {"model": arrays})
    with pytest.raises(UserError, match="is of 48k, this run is of 40k"):
        starting_from(PRESETS["40k"], pretrained_generator=str(file))
    with pytest.raises(UserError, match="another kind of network"):
        starting_from(pretrained="none", pretrained_discriminator=str(file))
    voice = {name: value for name, value in arrays.items() if not name.startswith("enc_q.")}
    torch_file.write(file, {"weight": voice, "config": [1]})
    with pytest.raises(UserError, match="posterior encoder"):
        starting_from(PRESETS["48k"], pretrained_generator=str(file))
    old = Network(Discriminator(PRESETS["40k-v1"].discriminator))
    torch_file.write(
        file,
        {
            "model": {
                name: np.zeros(shape, np.float16) for name, shape in old.public_shapes.items()
            }
        },
    )
    with pytest.raises(UserError, match="discriminator of 7 parts, this run's has 9"):
        starting_from(PRESETS["40k"], pretrained="none", pretrained_discriminator=str(file))
    torch_file.write(file, {"nothing": 1})
    with pytest.raises(UserError, match="holds no network"):
        starting_from(pretrained_generator=str(file))


def test_a_broken_network_or_none_is_refused(tmp_path: Path) -> None:
    public = generator_file(tmp_path / "G.pth")
    public["dec.conv_pre.weight"][0, 0, 0] = np.nan
    torch_file.write(tmp_path / "G.pth", {"model": public})
    with pytest.raises(UserError, match="not finite"):
        starting_from(pretrained_generator=str(tmp_path / "G.pth"))
    with pytest.raises(UserError, match="no file nowhere.pth"):
        starting_from(pretrained_generator="nowhere.pth")


def test_never_from_scratch_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path))
    monkeypatch.setenv("RVC_JAX_OFFLINE", "1")
    with pytest.raises(UserError, match="rvc-jax download f0G40k.*--pretrained none"):
        starting_from(PRESETS["40k"])
    generator, _, notes = starting_from()
    assert notes == [] and np.array_equal(
        generator["dec.conv_pre.weight"],
        build_synthesizer(NANO.generator, NANO.audio).init(1234)["dec.conv_pre.weight"],
    )


def write_base(folder: Path, preset: Preset, **changes: int) -> dict[str, np.ndarray]:
    """A base voice as the package has it: float16, one row of speakers; its generator's arrays."""
    sizes = dataclasses.replace(preset.generator, speakers=1, **changes)
    generator = build_synthesizer(sizes, preset.audio)
    discriminator = Network(Discriminator(preset.discriminator))
    networks = {"generator": generator, "discriminator": discriminator}
    made = {}
    for kind, network in networks.items():
        made[kind] = {
            name: value.astype(np.float16)
            for name, value in network.to_public(network.init(77)).items()
        }
        path = folder / f"base_{preset.name}_{kind}.safetensors"
        safetensors_file.write(path, made[kind])
    return made["generator"]


@pytest.fixture
def base_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    return tmp_path


def test_every_speaker_starts_from_the_base_voice(base_folder: Path) -> None:
    base = write_base(base_folder, MICRO_SMALL)
    generator, discriminator, notes = starting_from(MICRO_SMALL, pretrained="default")
    back = build_synthesizer(MICRO_SMALL.generator, MICRO_SMALL.audio).to_public(generator)
    for name, value in back.items():
        expected = base[name].astype(np.float32)
        np.testing.assert_array_equal(value, np.broadcast_to(expected, value.shape))
    assert back["emb_g.weight"].shape[0] == MICRO_SMALL.generator.speakers > 1
    assert set(discriminator) == set(Network(Discriminator(MICRO_SMALL.discriminator)).shapes)
    assert len(notes) == 2 and "base_small_generator.safetensors" in notes[0]
    assert not any("scratch" in note for note in notes)
    recipe = dataclasses.replace(MICRO_SMALL.train, pretrained="default")
    hashes = hash_pretrained_files(dataclasses.replace(MICRO_SMALL, train=recipe))
    assert set(hashes) == {"generator", "discriminator"}


def test_another_content_encoder_than_the_bases_is_said(base_folder: Path) -> None:
    write_base(base_folder, MICRO_SMALL, content_channels=768)
    generator, _, notes = starting_from(MICRO_SMALL, pretrained="default")
    fresh = build_synthesizer(MICRO_SMALL.generator, MICRO_SMALL.audio).init(
        MICRO_SMALL.train.seed
    )
    np.testing.assert_array_equal(generator["enc_p.weight"], fresh["enc_p.weight"])
    assert "768 channels, this voice's have 384: the layer that reads them" in notes[0]


def test_the_base_voice_is_left_aside_where_another_start_is_named(base_folder: Path) -> None:
    write_base(base_folder, MICRO_SMALL)
    assert starting_from(MICRO_SMALL, pretrained="none")[2] == []
    file = base_folder / "own.safetensors"
    (base_folder / "base_small_generator.safetensors").rename(file)
    _, _, notes = starting_from(MICRO_SMALL, pretrained="none", pretrained_generator=str(file))
    assert len(notes) == 1 and "own.safetensors" in notes[0]


def test_networks_of_other_presets_are_refused_for_small(base_folder: Path) -> None:
    write_base(base_folder, MICRO_SMALL)
    generator_file(base_folder / "G.pth")
    with pytest.raises(UserError, match="is of nano, this run is of small"):
        starting_from(MICRO_SMALL, pretrained_generator=str(base_folder / "G.pth"))
    own = str(base_folder / "base_small_generator.safetensors")
    with pytest.raises(UserError, match="is of small, this run is of nano"):
        starting_from(NANO, pretrained_generator=own)
