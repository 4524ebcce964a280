"""What comes from outside has one door each: files, JSON, the terminal, and the network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "rvc_jax"

OPENERS = {
    "open": "a file",
    "read_text": "a file",
    "read_bytes": "a file",
    "FileIO": "a file",
    "fromfile": "a file",
    "memmap": "a file",
    "load": "NumPy's or JSON's file",
    "safe_open": "a file of tensors",
    "SoundFile": "a recording",
    "ZipFile": "an archive",
    "loads": "JSON or TOML",
    "print": "the terminal",
    "urlopen": "an address",
    "url_to_fs": "an address",
    "import_module": "a module by its name",
    "__import__": "a module by its name",
    "eval": "code",
    "exec": "code",
}
"""Functions that open something, by name, and what they open."""

ALLOWED = {
    # the doors themselves
    "__init__.py": {"import_module"},
    "cli/doctor.py": {"import_module", "open"},
    "notebook/colab.py": {"import_module"},
    "storage/json_files.py": {"loads"},
    "storage/arrays.py": {"fromfile", "memmap"},
    "storage/places.py": {"url_to_fs"},
    "cli/terminal.py": {"print"},
    "storage/environment.py": {"open", "print"},  # XLA's library; remarks on variables
    # written here a moment ago, or by this process, which nobody else names
    "audio/blocks.py": {"memmap"},
    "audio/writing.py": {"open", "SoundFile"},
    "cli/commands/convert.py": {"open"},
    "cli/last_log.py": {"open"},
    "infer/server/limits.py": {"open"},
    "infer/server/server.py": {"open"},
    "storage/files.py": {"open"},
    "runs/history.py": {"open"},
    "train/distributed.py": {"loads", "urlopen"},
    "data/tfds_writer.py": {"loads"},
    "voices/export_writer.py": {"ZipFile"},
    "weights/torch_writer.py": {"ZipFile"},
    "voices/formats/onnx_model.py": {"read_bytes"},
    "voices/formats/native.py": {"loads"},
    # of the package itself
    "weights/bundled.py": {"load"},
    "cli/quickstart.py": {"read_text"},
    "notebook/estimate.py": {"loads", "read_text"},
    "notebook/translations/__init__.py": {"loads", "read_text"},
    # of the operating system
    "cli/bug_report.py": {"open"},
    "storage/processes.py": {"read_text"},
    "storage/installation.py": {"loads", "read_text"},  # the record of our own installation
    # the notebook's own programs, pages and environment
    "notebook/page.py": {"read_text"},
    "notebook/program.py": {"loads"},
    "data/patterns.py": {"loads"},
    "notebook/runtime.py": {"loads", "read_text"},
    "notebook/studio.py": {"loads"},
    # the file was opened by the opener, or checked just before
    "audio/tracks.py": {"open"},
    "voices/formats/zip_archive.py": {"open", "ZipFile", "FileIO"},
    "voices/formats/sniff.py": {"ZipFile"},
    "weights/torch_file.py": {"open", "ZipFile"},
    "weights/safetensors_file.py": {"loads", "safe_open"},
    "weights/transfer.py": {"open"},
    "weights/store.py": {"open", "ZipFile"},
    "data/recipes.py": {"loads"},
}
"""Where something may be opened in another way, and why."""


OURS = {"RunFolder", "Source", "cls", "os"}
"""Owners of functions that are named like an opener, and open nothing by themselves."""


def calls() -> Iterator[tuple[str, int, str]]:
    """Every call of an opener in the package: file, line, name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = opener(node.func) if isinstance(node, ast.Call) else ""
            if name:
                yield path.relative_to(PACKAGE).as_posix(), node.lineno, name


def opener(function: ast.expr) -> str:
    """The name of an opener that is called; empty for other functions."""
    if isinstance(function, ast.Name):
        # `read_text` without an owner is the one of storage.plain_files.
        own = function.id in ("read_text", "load")
        return "" if own or function.id not in OPENERS else function.id
    if not isinstance(function, ast.Attribute) or function.attr not in OPENERS:
        return ""
    owner = ast.unparse(function.value)
    if function.attr in ("load", "loads"):
        return function.attr if owner in ("np", "numpy", "json", "tomllib", "pickle") else ""
    if function.attr == "print" or owner in OURS or (owner[:1].isupper() and "(" not in owner):
        return ""
    return function.attr


def test_the_guard_sees_every_way() -> None:
    for code in (
        "open(x)",
        "path.open()",
        "Path(x).open()",
        "Path(x).read_text()",
        "np.load(x)",
        "json.loads(x)",
        "tomllib.load(x)",
        "zipfile.ZipFile(x)",
        "av.open(x)",
        "importlib.import_module(x)",
        "print(x)",
    ):
        assert opener(ast.parse(code).body[0].value.func), code
    for code in ("RunFolder.open(x)", "read_text(x)", "open_plain(x)", "console.print(x)"):
        assert not opener(ast.parse(code).body[0].value.func), code


def test_files_json_terminal_and_network_have_one_door() -> None:
    found = [
        f"rvc_jax/{file}:{line} opens {OPENERS[name]} by {name}()"
        for file, line, name in calls()
        if name not in ALLOWED.get(file, ())
    ]
    assert not found, "\n".join(found)


def test_the_list_of_exceptions_has_no_more_than_is_needed() -> None:
    used: dict[str, set[str]] = {}
    for file, _, name in calls():
        used.setdefault(file, set()).add(name)
    unused = {file: names - used.get(file, set()) for file, names in ALLOWED.items()}
    assert not {file: names for file, names in unused.items() if names}
