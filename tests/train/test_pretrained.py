"""Runs that start from networks somebody trained before: taken where they fit, refused in words
where they don't."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.config import PRESETS, Preset
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.train.networks import build_networks
from rvc_jax.train.pretrained import hash_pretrained_files, load_initial_parameters
from rvc_jax.weights import torch_file

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
