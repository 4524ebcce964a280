"""JSON of bounded size and depth, in the types of its schema, or one line."""

import dataclasses
import time

import pytest

from rvc_jax.errors import UserError
from rvc_jax.storage.json_files import MAX_DEPTH, decode_json, parse_json, read_json


@dataclasses.dataclass
class Schema:
    count: int
    names: tuple[str, ...] = ()
    rate: float = 0.0


def test_values_have_the_types_of_the_schema(tmp_path):
    file = tmp_path / "file.json"
    file.write_text('\ufeff{"count": 3, "names": ["a"], "rate": 1, "other": [1]}')
    assert read_json(file, Schema) == Schema(3, ("a",), 1.0)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing", Schema)
    with pytest.raises(UserError, match="more than 0 MB"):
        read_json(file, Schema, limit=10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nul",
        "[]",
        "5",
        '"text"',
        "{}",
        '{"count": "3"}',
        '{"count": 3.5}',
        '{"count": true}',
        '{"count": null}',
        '{"count": 1e400}',
        '{"count": 3, "names": "a"}',
        '{"count": 3, "names": [1]}',
        '{"count": 3, "names": {}}',
        '{"count": 3, "rate": []}',
        '{"count": 3',
        '{"count": 3}{}',
        '{"count": ' + "9" * 5000 + "}",
        '{"count": 3, "names": ' + "[" * 200 + "]" * 200 + "}",
        "\0",
    ],
)
def test_anything_else_is_one_line(text):
    with pytest.raises(UserError, match="^place is damaged: .*; do this") as caught:
        decode_json(text.encode(), Schema, "place", "do this")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_other_encodings_are_refused():
    for content in (b"\xff", '{"count": 3}'.encode("utf-16"), b'"\xed\xa0\x80"'):
        with pytest.raises(ValueError, match="UTF-8"):
            parse_json(content)


def test_depth_is_bounded_and_strings_are_not_depth():
    whole = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(whole)
    with pytest.raises(ValueError, match="brackets"):
        parse_json(b"[" + whole + b"]")
    assert parse_json(b'["' + b"[{" * 1000 + b'\\"[["]')
    assert parse_json(b"[" + b"[1]," * 1000 + b"2]")


def test_the_time_is_linear():
    million = 1_000_000
    for content in (b'"' * million, b'"\\' * million, b"[" * million, b'{"a":' * million):
        begin = time.process_time()
        with pytest.raises(ValueError):
            parse_json(content)
        assert time.process_time() - begin < 3
    with pytest.raises(ValueError, match="values"):
        parse_json(b"[" + b"1," * 2 * million + b"1,1]")


def test_half_a_character_becomes_a_question_mark():
    assert parse_json(b'{"a\\ud800": "\\uDFFFb", "c": "\\ud83d\\ude00"}') == {
        "a?": "?b",
        "c": "\U0001f600",
    }
