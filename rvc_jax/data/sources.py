"""Sources: which recordings a dataset is made of, and their speakers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rvc_jax.audio.reading import AUDIO_EXTENSIONS, search_folder
from rvc_jax.data.cut import Cut, name_cut, number_duplicates
from rvc_jax.data.fetch.sidecar import SIDECAR_SUFFIX, read_wanted_cuts, sidecar_path
from rvc_jax.data.recipes import collect_recipe_cuts, read_recipe
from rvc_jax.errors import UserError, make_printable
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import Location, is_remote, list_files

_PACKAGE = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Sources:
    """All cuts, ordered by speaker, then by name."""

    root: Location
    """The folder, file or recipe that was named."""
    cuts: tuple[Cut, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers; a speaker's number is the position in this table."""
        return tuple(dict.fromkeys(cut.speaker for cut in self.cuts))


def find_sources(
    source: Location,
    speakers: Literal["folders", "one"] = "folders",
    reporter: Reporter = SILENT,
) -> Sources:
    """Find the recordings in a folder and its sub-folders, in one file, or in a recipe.

    In a folder, every file that has sound counts; at a URL, those with an extension of
    `AUDIO_EXTENSIONS`. What is left out is reported. Every sub-folder is a
    speaker, unless `speakers` is "one"; files beside the sub-folders belong to a speaker named
    after the folder. A named file may have any extension; .toml is a recipe, whose links are
    fetched first. A recording with a sidecar of `rvc-jax fetch` contributes the cuts that were
    asked for.

    Raises:
        UserError: Nothing is at that path, the folder holds no recordings, a sidecar is damaged,
            or the recipe cannot be followed.
    """
    if is_remote(source):
        return _find_remote_sources(str(source), speakers)
    source = Path(source)
    # os.path, unlike Path, also answers for names that are too long.
    if os.path.isfile(source):  # noqa: PTH113
        if source.suffix.lower() == ".toml":
            recipe = read_recipe(source)
            return Sources(source, tuple(collect_recipe_cuts(recipe, reporter=reporter)))
        cut = Cut(source, make_printable(source.name), make_printable(source.stem))
        return Sources(source, tuple(_split_by_sidecar(cut) if _has_sidecar(source) else [cut]))
    if not os.path.exists(source):  # noqa: PTH110
        raise UserError(
            f"{source} does not exist; give a folder with recordings, one recording, "
            "or a recipe (.toml)"
        )
    found = search_folder(source)
    others = found.describe_others()
    paths = found.recordings
    if not paths:
        raise UserError(f"{source} holds no recordings" + (f": {others}" if others else ""))
    if others:
        reporter.message(others)
    names = [path.relative_to(source).as_posix() for path in paths]
    speaker = make_printable(source.resolve().name)
    return _make_sources(source, paths, names, speaker, speakers, _has_sidecar)


def find_bundled_sample(part: Literal["voice", "other"]) -> Path:
    """Return the folder of the bundled recordings: the free voice, or another speaker's clip.

    Raises:
        UserError: The package was installed without them.
    """
    in_wheel = _PACKAGE / "sample"
    in_checkout = _PACKAGE.parent / "data" / "sample"
    for folder in (in_wheel, in_checkout):
        if (folder / part).is_dir():
            return folder / part
    raise UserError(
        "the bundled sample is not installed; install rvc_jax again, or give a folder of your own"
    )


def _find_remote_sources(source: str, speakers: str) -> Sources:
    files = list_files(source)
    speaker = source.rstrip("/").rpartition("/")[2]
    if [name for _, name in files] == [""]:  # `source` is a file
        return Sources(source, (Cut(source, speaker, speaker.rpartition(".")[0] or speaker),))
    recordings = [
        (url, name) for url, name in files if Path(name).suffix.lower() in AUDIO_EXTENSIONS
    ]
    urls = [url for url, _ in recordings]
    names = [name for _, name in recordings]
    sidecars = {url for url, _ in files if url.endswith(SIDECAR_SUFFIX)}

    def has_sidecar(url: Location) -> bool:
        return f"{url}{SIDECAR_SUFFIX}" in sidecars

    return _make_sources(source, urls, names, speaker, speakers, has_sidecar)


def _make_sources(
    root: Location,
    paths: Sequence[Location],
    names: Sequence[str],
    speaker: str,
    speakers: str,
    has_sidecar: Callable[[Location], bool],
) -> Sources:
    """Make one cut per recording, or several where a sidecar says so, and sort them.

    Args:
        root: The folder that was named.
        paths: The recordings.
        names: Their paths below the root, as the file system has them.
        speaker: Speaker of the recordings directly in the root.
        speakers: "folders" or "one".
        has_sidecar: Whether a recording has one.
    """
    if not paths:
        raise UserError(
            f"{root} holds no recordings; known endings are {' '.join(sorted(AUDIO_EXTENSIONS))}"
        )
    speaker_of_folder = _name_folder_speakers(names) if speakers == "folders" else {}
    # Numbered, so that names which differ only in unprintable characters stay different.
    labels = number_duplicates([make_printable(name) for name in names])
    cuts = []
    for path, name, label in zip(paths, names, labels, strict=True):
        folder, slash, _ = name.partition("/")
        cuts.append(
            Cut(path, label, speaker_of_folder.get(folder, speaker) if slash else speaker)
        )
    # The root's own speaker comes first, then numbers by their value, then names.
    cuts.sort(key=lambda cut: (cut.speaker != speaker, _natural_key(cut.speaker), cut.name))
    split = [_split_by_sidecar(cut) if has_sidecar(cut.path) else [cut] for cut in cuts]
    return Sources(root, tuple(cut for group in split for cut in group))


def _name_folder_speakers(names: Sequence[str]) -> dict[str, str]:
    """Return the speaker's name for each top-level folder among the recordings' paths."""
    folders = list(dict.fromkeys(name.partition("/")[0] for name in names if "/" in name))
    labels = number_duplicates([make_printable(folder) for folder in folders])
    return dict(zip(folders, labels, strict=True))


def _has_sidecar(recording: Location) -> bool:
    return os.path.exists(sidecar_path(Path(recording)))  # noqa: PTH110


def _split_by_sidecar(cut: Cut) -> list[Cut]:
    """Return the cuts asked for when a recording was fetched; the whole if none were."""
    wanted = read_wanted_cuts(cut.path)
    if wanted == ((0.0, None),):
        return [cut]
    return [
        dataclasses.replace(cut, name=name_cut(cut.name, start, stop), start=start, stop=stop)
        for start, stop in wanted
    ]


def _natural_key(name: str) -> tuple[int, str]:
    """Return a sort key: numbers by their value, before names."""
    is_number = name.isdecimal() and len(name) < 10
    return (int(name), name) if is_number else (10**9, name)
