"""Regular expressions from options and recipes, which may be made to search for ever.

They run in a process of their own, which is ended when it takes too long: nothing else bounds both
the time and the memory of Python's `re` on every system and in every thread. A process takes some
20 ms, once per recording.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

MAX_SECONDS = 5.0
"""Limit for all texts of one search."""
_MAX_LENGTH = 1000
_MAX_MEMORY_BYTES = 1 << 30

_PROGRAM = f"""
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_MAX_MEMORY_BYTES}, {_MAX_MEMORY_BYTES}))
except (ImportError, OSError, ValueError):
    pass
pattern, texts = json.load(sys.stdin)
try:
    search = re.compile(pattern, re.IGNORECASE).search
except (re.error, OverflowError, RecursionError) as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([search(text) is not None for text in texts]))
"""


class PatternError(ValueError):
    """A pattern is not a regular expression, or takes too long. The text says which."""


def search_texts(pattern: str, texts: Sequence[str]) -> list[bool]:
    """Return which texts a regular expression is found in, ignoring case.

    Raises:
        PatternError: The pattern is invalid, or took longer than `MAX_SECONDS`.
    """
    if len(pattern) > _MAX_LENGTH:
        raise PatternError(f"longer than {_MAX_LENGTH} characters")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps([pattern, list(texts)]),
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise PatternError(f"takes more than {MAX_SECONDS:.0f} seconds to search") from None
    except ValueError:
        raise PatternError("takes too much memory to search") from None
    if isinstance(found, str):
        raise PatternError(f"not a regular expression ({found})")
    return found


def check_pattern(pattern: str) -> None:
    """Check that a regular expression is valid. Raises PatternError."""
    search_texts(pattern, ())
