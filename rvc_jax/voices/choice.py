"""Which of several files is the voice, and which index belongs to it, by the names that tools give.

Names are compared by their core: what is left without the marks of training programs
(`ada_e20_s100`, `ada_200e_4000s`, `ada_best`, `ada-final`, `ada_v2` are "ada", and so is
`added_IVF512_Flat_nprobe_1_ada_v2.index`). A core has one form of every letter, in lower case, with
`_` for every separator.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from rvc_jax.errors import make_printable

FEATURES = "total_fea.npy"
"""What RVC calls the array of all features of a training."""

_MARK = re.compile(
    r"[_\-. ](?:e\d+|s\d+|\d+e(?:pochs?)?|epochs?_?\d+|\d+s(?:teps?)?|steps?_?\d+|v[12]|\d+k|"
    r"best(?:_epoch)?|final|latest|last|weights?|infer|rvc|model)$"
)
_COPY = re.compile(r" ?\(\d+\)$|[_\- ]copy$")
_INDEX_MARK = re.compile(
    r"(?:added|trained)_|(?:^|_)ivf\d+(?=_|$)|(?:^|_)flat(?=_|$)|nprobe_\d+_?"
)
_CHECKPOINT = re.compile(r"(?:[gd]_\d|f0[gd]\d+k|[gd]\d+k(?:\.|$))", re.IGNORECASE)
_TRAINED = re.compile(r"^trained[_.]|[_\-]trained_ivf")
_COUNT = re.compile(r"(?:^|[_\-. ])(?:e(\d{1,9})|(\d{1,9})e(?:poch)?)(?=$|[_\-. ])")
_MAX_LISTED = 3

EXACT = 5
SAME_CORE = 4
CONTAINED = 3


class Candidate(NamedTuple):
    """A file that may be the voice, or its index."""

    path: PurePath
    """Its place in a folder or an archive."""
    changed: float
    """When it was last changed; any clock."""


def find_core(stem: str) -> str:
    """Return the core of the name of a voice, without its extension."""
    core = unicodedata.normalize("NFC", stem).casefold().strip()
    core = _COPY.sub("", core)
    while shorter := _MARK.sub("", core):
        if shorter == core:
            break
        core = shorter
    return _join_words(core)


def find_index_core(stem: str) -> str:
    """Return the core of the name of an index, without its extension."""
    core = unicodedata.normalize("NFC", stem).casefold().strip()
    return find_core(_INDEX_MARK.sub("_", core).strip("_")) if core else ""


def is_checkpoint(name: str) -> bool:
    """Whether a file's name is that of a training checkpoint or a pretrained network."""
    return _CHECKPOINT.match(name) is not None


def is_trained_alone(name: str) -> bool:
    """Whether a file's name is that of the empty index that RVC leaves beside the real one."""
    return _TRAINED.search(name.casefold()) is not None


def choose_voice(found: Sequence[Candidate], place: str) -> tuple[Candidate, str]:
    """Choose the voice among files of which at least one may be it.

    Checkpoints (G_, D_) count only where there is nothing else. The name that fits the place comes
    first, then a voice marked as the best, one without marks (the last of a training), more
    epochs, and the newest.

    Args:
      place: Name of the folder or archive, without its extension.

    Returns:
      The choice, and a sentence about it; an empty one if there was nothing to choose.
    """
    voices = [each for each in found if not is_checkpoint(each.path.name)]
    if not voices:
        generators = [each for each in found if each.path.name.upper().startswith("G")]
        voices = generators or list(found)
    core = find_core(place)

    def rank(each: Candidate) -> tuple:
        stem = each.path.stem
        plain = stem.casefold()
        epochs = [int(a or b) for a, b in _COUNT.findall(plain)]
        number = max(map(int, re.findall(r"\d{1,18}", stem)), default=0)
        return (
            _compare(find_core(stem), core),
            "best" in plain,
            not epochs,
            max(epochs, default=0),
            number if is_checkpoint(stem) else 0,
            each.changed,
            each.path.name,
        )

    chosen = max(voices, key=rank)
    if len(voices) == 1:
        return chosen, ""
    others = [each.path.name for each in voices if each is not chosen]
    return chosen, (
        f"took {make_printable(chosen.path.name)} of {len(voices)} voices there "
        f"(not {list_names(others)}); --member takes another"
    )


def choose_index(
    voice: PurePath,
    voices: Sequence[PurePath],
    indexes: Sequence[Candidate],
    version: str = "",
) -> tuple[Candidate | None, str]:
    """Choose the index of a voice among those in its place.

    An index that has another voice's name is not taken, nor is one of any name beside several
    voices, nor RVC's empty "trained_" ones.

    Args:
      voice: The voice.
      voices: All voices in its place, itself among them; checkpoints do not count.
      indexes: The indexes there.
      version: "v1" or "v2" if it is known: RVC writes it behind the name of an index.

    Returns:
      The choice or None, and a sentence about it; an empty one if there was nothing to choose.
    """
    usable = [each for each in indexes if not is_trained_alone(each.path.name)]
    others = [path for path in voices if path != voice and not is_checkpoint(path.name)]
    scores = {each: _score(voice, each.path) for each in usable}
    fitting = [
        each
        for each in usable
        if scores[each] >= CONTAINED
        and all(_score(other, each.path) <= scores[each] for other in others)
    ]
    cores = {find_core(path.stem) for path in (voice, *others)}
    if not fitting and len(cores) == 1 and len(usable) == 1:
        return usable[0], ""
    if not fitting:
        return None, _explain_none(indexes, usable, len(cores))

    def rank(each: Candidate) -> tuple[int, bool]:
        return scores[each], bool(version) and each.path.stem.endswith(f"_{version}")

    chosen = max(fitting, key=lambda each: (*rank(each), each.changed, each.path.name))
    equal = [each.path.name for each in fitting if rank(each) == rank(chosen)]
    if len(equal) == 1:
        return chosen, ""
    rest = list_names([name for name in equal if name != chosen.path.name])
    return chosen, (
        f"took the index {make_printable(chosen.path.name)}, the newest of {len(equal)} "
        f"(not {rest}); --index takes another"
    )


def list_names(names: Sequence[str]) -> str:
    """List the first few names, for a message."""
    listed = ", ".join(map(make_printable, names[:_MAX_LISTED]))
    return listed + (", ..." if len(names) > _MAX_LISTED else "")


def _explain_none(
    indexes: Sequence[Candidate], usable: Sequence[Candidate], voices: int
) -> str:
    if usable:
        names = list_names([each.path.name for each in usable])
        beside = f" and {voices} voices" if voices > 1 else ""
        return f"{names}{beside} there, and no index has this voice's name"
    if indexes:
        names = list_names([each.path.name for each in indexes])
        return f"only {names} there, which RVC leaves empty: its added_... is missing"
    return ""


def _score(voice: PurePath, index: PurePath) -> int:
    """How well the name of an index fits a voice: 0, CONTAINED, SAME_CORE or EXACT."""
    if index.stem.casefold() == voice.stem.casefold():
        return EXACT
    core = find_core(voice.stem)
    own = find_index_core(index.stem)
    if index.name.casefold() == FEATURES:
        own = find_core(index.parent.name)
    return _compare(core, own)


def _compare(first: str, second: str) -> int:
    if not first or not second:
        return 0
    if first == second:
        return SAME_CORE
    is_inside = f"_{first}_" in f"_{second}_" or f"_{second}_" in f"_{first}_"
    return CONTAINED if is_inside else 0


def _join_words(text: str) -> str:
    return re.sub(r"[_\-.\s+]+", "_", text).strip("_")
