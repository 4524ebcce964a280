"""Commands as processes: what they print and say, how they fail, and how the user stops them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.notebook.program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program whose command `rvc_jax` runs the Python that it is given as its first argument."""
    (tmp_path / "rvc_jax.py").write_text("import sys\nexec(sys.argv[1])\n")
    return Program(
        sys.executable, {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    )


def test_result_and_events(program: Program) -> None:
    events = []
    code = (
        "print('{\"a\": 1}'); "
        'print(\'{"event": "training", "step": 2}\\nplain { words\', file=sys.stderr)'
    )
    assert program.run(code, on_event=events.append) == {"a": 1}
    assert events == [
        {"event": "training", "step": 2},
        {"event": "line", "text": "plain { words"},
    ]


def test_a_mistake_is_the_commands_own_line(program: Program) -> None:
    code = "print('rvc-jax: error: disk full: x\\nafterwards', file=sys.stderr); sys.exit(2)"
    with pytest.raises(UserError, match="^disk full: x$"):
        program.run(code, on_event=lambda event: None)
    with pytest.raises(UserError, match="^RuntimeError: out of memory$"):
        program.run("raise RuntimeError('out of memory')", on_event=lambda event: None)


def test_the_accelerator_kills_it_without_a_word(program: Program) -> None:
    with pytest.raises(UserError, match="ended with code -9"):
        program.run("import os; os.kill(os.getpid(), 9)", on_event=lambda event: None)


def test_a_stopped_cell_lets_the_command_save(program: Program) -> None:
    code = """
import time
print("training", file=sys.stderr)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("saving", file=sys.stderr)
    print('{"interrupted": true}')
"""
    events = []
    stopped = []

    def listen(event: dict) -> None:
        events.append(event["text"])
        if event["text"] == "training":
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    assert program.run(code, on_event=listen, on_interrupt=lambda: stopped.append(1)) == {
        "interrupted": True
    }
    assert events == ["training", "saving"] and stopped == [1]


def test_a_stopped_command_that_does_not_end_well(program: Program) -> None:
    began = time.monotonic()
    threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        program.run("import time; time.sleep(60)", on_event=lambda event: None)
    assert time.monotonic() - began < 30


def test_evaluating(program: Program) -> None:
    assert program.evaluate("print(1); print(2)") == "2"
    with pytest.raises(UserError, match="ValueError: x"):
        program.evaluate("raise ValueError('x')")
