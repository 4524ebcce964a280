"""Mixing two voices: the arithmetic, what fits together, and the command."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pytest
from made_runs import ROWS, make_model, make_run
from micro import MICRO

from rvc_jax.cli.main import main
from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices import export_writer
from rvc_jax.voices.merge import PARTS, merge_voices
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import safetensors_file

FIRST = make_model(1)
SECOND = make_model(2)


def test_the_ends_are_the_voices_themselves() -> None:
    for share, voice in ((1, FIRST), (0, SECOND)):
        mixed = merge_voices(FIRST, SECOND, share, {})
        assert mixed.weights.keys() == voice.without_posterior().weights.keys()
        assert all(
            np.array_equal(mixed.weights[name], voice.weights[name]) for name in mixed.weights
        )


def test_a_quarter_is_a_quarter() -> None:
    mixed = merge_voices(FIRST, SECOND, 0.25, {})
    for name, array in mixed.weights.items():
        assert array.dtype == np.float32
        expected = 0.25 * FIRST.weights[name] + 0.75 * SECOND.weights[name]
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
    assert (
        not mixed.has_posterior and mixed.network().public_shapes.keys() == mixed.weights.keys()
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_a_share_of_its_own(part: str) -> None:
    mixed = merge_voices(
        FIRST, SECOND, 0, {part: 1.0} | {other: None for other in PARTS if other != part}
    )
    ours = [
        name
        for name, array in mixed.weights.items()
        if np.array_equal(array, FIRST.weights[name])
    ]
    differing = [
        name
        for name in mixed.weights
        if not np.array_equal(FIRST.weights[name], SECOND.weights[name])
    ]
    assert {name.partition(".")[0] for name in set(ours) & set(differing)} == {PARTS[part]}
    assert all(name in ours for name in mixed.weights if name.startswith(f"{PARTS[part]}."))


def test_the_fewer_speakers_are_kept() -> None:
    fewer = dataclasses.replace(
        MICRO, generator=dataclasses.replace(MICRO.generator, speakers=3)
    )
    speakers = {"speakers": ("a", "b", "c", "d")}
    mixed = merge_voices(dataclasses.replace(FIRST, **speakers), make_model(2, fewer), 0.5, {})
    assert mixed.generator.speakers == 3 and mixed.weights["emb_g.weight"].shape == (3, 4)
    assert mixed.speakers == ("a", "b", "c")
    assert mixed.network().public_shapes == {
        name: array.shape for name, array in mixed.weights.items()
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "v1"}, "version .*v2 and v1"),
        (
            {"content_encoder": "spin", "content_fingerprint": None},
            "content encoder .*contentvec and spin",
        ),
        ({"content_fingerprint": "cd" * 32}, "its weights differed"),
        (
            {"audio": dataclasses.replace(MICRO.audio, sample_rate=40000)},
            "sample rate .*16000 Hz and 40000 Hz",
        ),
        (
            {"generator": dataclasses.replace(MICRO.generator, has_pitch=False)},
            "pitch guidance",
        ),
        (
            {"generator": dataclasses.replace(MICRO.generator, hidden_channels=32)},
            "their sizes differ",
        ),
        ({"weights": {"emb_g.weight": FIRST.weights["emb_g.weight"]}}, "is missing"),
    ],
)
def test_different_kinds_are_not_mixed(change: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        merge_voices(FIRST, dataclasses.replace(SECOND, **change), 0.5, {})


def test_an_unknown_fingerprint_is_accepted() -> None:
    mixed = merge_voices(dataclasses.replace(FIRST, content_fingerprint=None), SECOND, 0.5, {})
    assert mixed.content_fingerprint == SECOND.content_fingerprint


@pytest.mark.parametrize(
    ("share", "shares", "told"),
    [(1.5, {}, "--ratio 1.5"), (0.5, {"flow": -0.1}, "--ratio-flow"), (np.nan, {}, "nan")],
)
def test_shares_have_a_range(share: float, shares: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        merge_voices(FIRST, SECOND, share, shares)


def test_the_command_mixes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    runs = [make_run(tmp_path / name, seed=seed).path for name, seed in (("a", 1), ("b", 2))]
    out = tmp_path / "mixed.safetensors"
    options = ["--ratio", "0.25", "--ratio-decoder", "1"]
    assert main(["merge", *map(str, runs), "--out", str(out), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [str(out)]}
    ours, theirs = (VoiceModel.from_run(RunFolder.open(run)).weights for run in runs)
    found = safetensors_file.read(out)
    assert np.array_equal(found["dec.conv_pre.weight"], ours["dec.conv_pre.weight"])
    np.testing.assert_allclose(
        found["emb_g.weight"], 0.25 * ours["emb_g.weight"] + 0.75 * theirs["emb_g.weight"], 1e-6
    )

    monkeypatch.setattr(VoiceModel, "is_rvc_compatible", True)
    written = {}

    def write(path: Path, rows: np.ndarray) -> None:
        written["rows"] = rows
        path.touch()

    stand_in = types.SimpleNamespace(
        write=write, read=lambda path: written["rows"].astype(np.float32)
    )
    monkeypatch.setattr(export_writer, "faiss_index", stand_in)
    both = [str(tmp_path / "c.pth"), str(tmp_path / "c.safetensors")]
    assert main(["merge", *map(str, runs), "--out", *both, "--index", "both"]) == 0
    assert np.array_equal(written["rows"], np.concatenate([ROWS, ROWS]))
    assert {path.name for path in tmp_path.glob("c.*")} == {"c.pth", "c.index", "c.safetensors"}


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--ratio", "2"], "out of range"), (["--out", "x.zip"], ".pth or .safetensors")],
)
def test_the_command_refuses(tmp_path: Path, capsys, options: list[str], told: str) -> None:
    run = str(make_run(tmp_path / "a").path)
    out = [] if "--out" in options else ["--out", str(tmp_path / "x.safetensors")]
    assert main(["merge", run, run, *out, *options]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
