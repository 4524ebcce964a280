"""Options from the query of an address."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.server import query as query_module
from rvc_jax.infer.server.query import FORMATS, OPTIONS, parse_options


def test_options_are_parsed_by_type() -> None:
    query = {
        "transpose": "-2.5",
        "auto_transpose": "True",
        "f0-method": "crepe-tiny",
        "index-rate": "1e-1",
        "seed": "-7",
        "format": "FLAC",
    }
    expected = ConvertConfig(
        transpose=-2.5, auto_transpose=True, f0_method="crepe-tiny", index_rate=0.1, seed=-7
    )
    assert parse_options(query.items()) == (expected, "flac")
    assert parse_options([]) == (ConvertConfig(), "wav")
    assert {"transpose", "protect", "speaker", "f0_method"} <= set(OPTIONS) and set(
        FORMATS
    ) >= {"wav", "mp3"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("transpoze=1", "there is no option 'transpoze'; did you mean transpose?"),
        ("x\x1b[2J=1", r"there is no option 'x\?\[2J'"),
        ("transpose=", "transpose must be a number, not ''"),
        ("transpose=nan", "transpose must be a number, not 'nan'"),
        ("transpose=-inf", "transpose must be a number"),
        ("transpose=1e300", "transpose must be a number"),
        ("transpose=1_0", "transpose must be a number"),
        ("seed=1.5", "seed must be a whole number, not '1.5'"),
        (f"seed={'9' * 5000}", r"seed must be a whole number, not '9{40}\.\.\.'"),
        ("seed=4294967296", "seed must be a whole number"),
        ("auto_transpose=maybe", "auto_transpose must be true or false, not 'maybe'"),
        ("f0_method=magic", "f0_method must be one of swift, rmvpe, .* not 'magic'"),
        ("f0_method=None", "f0_method must be one of"),
        ("format=exe", "format must be one of wav, flac, ogg, mp3.*, not 'exe'"),
        ("format=../../etc/passwd", "format must be one of"),
        ("format=", "format must be one of"),
        ("index-rate=0&index_rate=1", "index_rate is given twice"),
        ("=1", "there is no option ''"),
        ("__class__=1", "there is no option '__class__'"),
    ],
)
def test_bad_options_are_refused(query: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_options(part.split("=", 1) for part in query.split("&"))


def test_options_that_name_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [
        ("f0_file", Path | None, dataclasses.field(default=None)),
        ("curve", str, dataclasses.field(default="")),
    ]
    texts = [("speaker_mix", str, dataclasses.field(default=""))]
    monkeypatch.setattr(
        query_module,
        "ConvertConfig",
        dataclasses.make_dataclass("More", fields + texts, bases=(ConvertConfig,), frozen=True),
    )
    options = query_module.find_options(query_module.ConvertConfig)
    assert {"transpose", "speaker_mix"} <= set(options)
    assert not {"f0_file", "curve"} & set(options)
    monkeypatch.setattr(query_module, "OPTIONS", options)
    config, _ = parse_options([("speaker-mix", "0:0.7,1:0.3")])
    assert config.speaker_mix == "0:0.7,1:0.3"
    for text in ("1" * 201, "0:1\n"):
        with pytest.raises(UserError, match="speaker_mix must be a short text"):
            parse_options([("speaker_mix", text)])
    for name in ("f0_file", "curve", "f0-file"):
        with pytest.raises(UserError, match=f"{name} can't be set over HTTP"):
            parse_options([(name, "/etc/passwd")])
