"""The one way to print: text from outside can't move the cursor, nor hide what is around it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rvc_jax.errors import hide_credentials, make_printable


def print_line(text: str, to_stderr: bool = False) -> None:
    """Print one line.

    Question marks replace control characters (escape sequences, line ends), characters that turn
    the direction of text, and invisible ones. Addresses lose their user and password.

    Args:
        text: The line. Any part of it may come from outside.
        to_stderr: Print to standard error, where a closed terminal or pipe is ignored: work goes
            on without a reader.
    """
    line = make_printable(hide_credentials(text))
    if not to_stderr:
        print(line, flush=True)
        return
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class PrintableStream:
    """A stream for libraries that print by themselves: it takes lines as `print_line` does."""

    def __init__(self, stream: TextIO):
        """stream: Receives what is printable."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text of any number of lines."""
        self._stream.write("\n".join(map(make_printable, text.split("\n"))))
        return len(text)

    def isatty(self) -> bool:
        """Return False: colors would not arrive."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_streams(arguments: Sequence[str]) -> Iterator[None]:
    """Make what libraries print harmless within the context, if arguments hold control characters.

    The parser of the command line repeats arguments in its errors.
    """
    if all(make_printable(argument) == argument for argument in arguments):
        yield
        return
    out: Any = PrintableStream(sys.stdout)
    err: Any = PrintableStream(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def print_lines(text: str) -> None:
    """Print a text of several lines, such as JSON or a page of Markdown, to standard output."""
    for line in text.removesuffix("\n").split("\n"):
        print(make_printable(hide_credentials(line)))
    sys.stdout.flush()
