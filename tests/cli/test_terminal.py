"""Everything that is printed goes through one function, which leaves nothing that acts."""

import json
import unicodedata

import pytest
from made_runs import make_run

from rvc_jax.cli.commands.watch import watch
from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.main import main
from rvc_jax.cli.terminal import print_line, print_lines

ACTIONS = {
    "color": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;title\x07",
    "link": "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\",
    "eight-bit": "\x9b2J",
    "line end": "one\ntwo\r\nthree\x0bfour\x0cfive\x85six\u2028seven\u2029eight",
    "backspace": "abc\b\b\bxyz",
    "direction": "\u202egpj.exe\u2066\u2069\u200f",
    "invisible": "a\u200bb\u2060c\ufeffd",
    "half a character": "\ud800",
    "tag": "\U000e0041",
    "null": "a\0b",
}


def acts(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize("name", ACTIONS)
def test_no_action_arrives(name, capsys):
    text = f"before {ACTIONS[name]} after"
    print_line(text)
    print_line(text, to_stderr=True)
    print_result(None, [(text, text)], as_json=False)
    print_result({text: [text]}, [], as_json=True)
    for form in ("lines", "json"):
        with Display(form) as display:
            display.message(text)
            display.progress(text, 1, 2, text)
    assert main([text]) == 2
    assert main(["info", f"/nowhere/{text}"]) == 2
    printed = capsys.readouterr()
    for line in (printed.out + printed.err).split("\n"):
        assert not acts(line), ascii(line)
    assert printed.err.count("\n") < 20


def test_bars_show_markup_as_it_is(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Display() as display:
        display.progress("[red]stage", 1, 2, "[bold]text[/bold]")
        display.message("[link=http://x]message[/link] \x1b[31m")
    shown = capsys.readouterr().err
    assert "[red]stage" in shown and "[bold]text[/bold]" in shown
    assert "[link=http://x]message[/link] ?[31m" in shown


def test_several_lines_stay_lines(capsys):
    print_lines('{\n "a": "\x1b"\n}\n')
    assert capsys.readouterr().out == '{\n "a": "?"\n}\n'


def test_a_run_of_somebody_else_is_watched_safely(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    everything = "".join(ACTIONS.values())
    beat = {
        "state": "failed",
        "why": everything,
        "alive": 1.0,
        "moved": 1.0,
        "machine": everything,
        "process": 1,
        "budget": everything,
        "message": everything,
        "total_steps": 10,
        "losses": {everything: 1.0},
    }
    (run.path / "heartbeat.json").write_text(json.dumps(beat))
    assert watch(str(run.path)) == 1
    assert main(["status", str(run.path)]) == 0
    assert main(["status", str(run.path), "--json"]) == 0
    printed = capsys.readouterr()
    assert "failed" in printed.out
    for line in (printed.out + printed.err).split("\n"):
        assert not acts(line), ascii(line)
