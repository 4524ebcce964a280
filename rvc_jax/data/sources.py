"""Which sound the speech comes from, and who speaks."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import rvc_jax
from rvc_jax.audio.reading import AUDIO_EXTENSIONS, find_audio
from rvc_jax.data.fetch.sidecar import SIDECAR_SUFFIX, read_wanted_cuts, sidecar_path
from rvc_jax.data.timecode import name_cut
from rvc_jax.errors import UserError, make_printable
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import Location, is_remote, list_files


@dataclasses.dataclass(frozen=True)
class Cut:
    """A recording, or a part of one."""

    path: Location
    name: str
    """What records and reports call it: unique among the sources."""
    speaker: str
    start: float = 0.0
    """Seconds into the recording."""
    stop: float | None = None
    """Seconds into the recording; None is its end."""
    gain_db: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sources:
    """Everything that was asked for, in the order of the speakers, then of the names."""

    root: Location
    """The folder, file or recipe that was named."""
    cuts: tuple[Cut, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers; the place in this table is the speaker's number."""
        return tuple(dict.fromkeys(cut.speaker for cut in self.cuts))


def find_sources(
    source: Location,
    speakers: Literal["folders", "one"] = "folders",
    reporter: Reporter = SILENT,
) -> Sources:
    """The recordings in a folder and its sub-folders, or the one file that is named.

    In a folder, only files with an ending of `AUDIO_EXTENSIONS` count, and every sub-folder is a
    speaker of its own, unless `speakers` is "one"; files beside the sub-folders are the speech of a
    speaker named as the folder. A file that is named is taken as it is, and one that ends in .toml
    is a recipe, whose links are fetched first. Of files with a note of `rvc-jax fetch` beside them,
    the parts that were asked for are taken.

    Raises:
      UserError: there is nothing at that path, no recording in the folder, or the recipe cannot be
          followed.
    """
    if is_remote(source):
        return _remote_sources(str(source), speakers)
    source = Path(source)
    if os.path.isfile(source):
        if source.suffix.lower() == ".toml":
            return _recipe_sources(source, reporter)
        cut = Cut(source, make_printable(source.name), make_printable(source.stem))
        return Sources(
            source, tuple(_wanted(cut) if os.path.exists(sidecar_path(source)) else [cut])
        )
    if not os.path.exists(source):  # unlike Path.exists, also for names that are too long
        raise UserError(
            f"{source} does not exist; give a folder with recordings, one recording, or a recipe (.toml)"
        )
    paths = find_audio(source)
    names = [path.relative_to(source).as_posix() for path in paths]
    speaker = make_printable(source.resolve().name)
    return _sources(
        source, paths, names, speaker, speakers, lambda path: os.path.exists(sidecar_path(path))
    )


def _sources(
    root: Location,
    paths: list,
    names: list[str],
    speaker: str,
    speakers: str,
    noted: Callable[[Location], bool],
) -> Sources:
    """names: below the root, as the file system has them. noted: whether a recording has a note of
    its fetching."""
    if not paths:
        raise UserError(
            f"{root} holds no recordings; known endings are {' '.join(sorted(AUDIO_EXTENSIONS))}"
        )

    folders = list(
        dict.fromkeys(
            name.partition("/")[0] for name in names if "/" in name and speakers == "folders"
        )
    )
    # Names that differ only in what cannot be printed stay different.
    labels = dict(
        zip(
            folders,
            number_duplicates([make_printable(folder) for folder in folders]),
            strict=True,
        )
    )
    shown = number_duplicates([make_printable(name) for name in names])
    cuts = [
        Cut(
            path, label, labels.get(name.partition("/")[0], speaker) if "/" in name else speaker
        )
        for path, name, label in zip(paths, names, shown, strict=True)
    ]
    cuts.sort(key=lambda cut: (cut.speaker != speaker, _natural(cut.speaker), cut.name))
    return Sources(
        root,
        tuple(part for cut in cuts for part in (_wanted(cut) if noted(cut.path) else [cut])),
    )


def _wanted(cut: Cut) -> list[Cut]:
    """The parts of a recording that were asked for when it was fetched; the whole, if it was
    not."""
    parts = read_wanted_cuts(cut.path)
    if parts == ((0.0, None),):
        return [cut]
    return [
        dataclasses.replace(cut, name=name_cut(cut.name, *part), start=part[0], stop=part[1])
        for part in parts
    ]


def number_duplicates(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that have come before."""
    seen: collections.Counter[str] = collections.Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _natural(name: str) -> tuple[int, str]:
    """Numbers by their value, before names."""
    return (int(name), name) if name.isdecimal() and len(name) < 10 else (10**9, name)


def _remote_sources(source: str, speakers: str) -> Sources:
    found = list_files(source)
    speaker = source.rstrip("/").rpartition("/")[2]
    if [name for _, name in found] == [""]:
        return Sources(source, (Cut(source, speaker, speaker.rpartition(".")[0] or speaker),))
    recordings = [
        (url, name) for url, name in found if Path(name).suffix.lower() in AUDIO_EXTENSIONS
    ]
    urls = [url for url, _ in recordings]
    names = [name for _, name in recordings]
    notes = {url for url, _ in found if url.endswith(SIDECAR_SUFFIX)}
    return _sources(
        source, urls, names, speaker, speakers, lambda url: f"{url}{SIDECAR_SUFFIX}" in notes
    )


def _recipe_sources(path: Path, reporter: Reporter) -> Sources:
    from rvc_jax.data.recipes import collect_recipe_cuts, read_recipe

    return Sources(path, tuple(collect_recipe_cuts(read_recipe(path), reporter=reporter)))


def find_bundled_sample(part: Literal["voice", "other"]) -> Path:
    """Folder of the bundled recordings: the free voice, or the clip of another speaker.

    Raises UserError where the package was installed without them.
    """
    package = Path(rvc_jax.__file__).parent
    for folder in (
        package / "sample",
        package.parent / "data" / "sample",
    ):  # a wheel, a checkout
        if (folder / part).is_dir():
            return folder / part
    raise UserError(
        "the bundled sample is not installed; install rvc_jax again, or give a folder of your own"
    )
