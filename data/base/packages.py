"""Packages of the recipe: how they come from their registries, and what is in them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.base.recipe import Package


def fetch_files(packages: Iterable[Package], folder: Path) -> None:
    """Download every package that the folder doesn't hold yet.

    Debian's packages come with `apt-get download`, those of PyPI with `pip download` and those of
    npm with `npm pack`: from wherever these programs are set up to fetch.

    Raises:
      ValueError: a file has another SHA-256 than its package says.
      subprocess.CalledProcessError: the registry's program failed, and said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        target = folder / package.file
        if not target.exists():
            _download(package, target)
        found = hash_file(target)
        if found != package.sha256:
            raise ValueError(f"{target} has the SHA-256 {found}, not {package.sha256}")
        print(f"{package.file} is there", flush=True)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_package_members(path: Path) -> list[str]:
    """Return the names of all files in a package, sorted."""
    return sorted(name for name, _ in _open(path, None))


def read_package_member(path: Path, name: str) -> bytes:
    """Return the content of one file of a package.

    Raises:
      KeyError: the package doesn't hold it.
    """
    for _, content in _open(path, {name}):
        return content
    raise KeyError(f"{path} has no file {name}")


def read_package_members(path: Path, names: set[str]) -> dict[str, bytes]:
    """Return the contents of some files of a package, by name."""
    return dict(_open(path, names))


def _download(package: Package, target: Path) -> None:
    wanted = f"{package.name}={package.version}"
    commands = {
        "debian": ["apt-get", "download", "-q", wanted],
        "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps"],
        "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
    }
    command = commands[package.registry]
    if package.registry == "pypi":
        command = [*command, f"{package.name}=={package.version}"]
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        subprocess.run(command, cwd=temporary, check=True)
        (found,) = Path(temporary).iterdir()
        shutil.move(found, target)


def _open(path: Path, names: set[str] | None) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents; of all files with no content, if `names` is None."""
    if path.suffix == ".deb":
        with tempfile.TemporaryFile() as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", path], stdout=file, check=True)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                yield from _select(archive, names)
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if names is None or name in names:
                    yield name, archive.read(name) if names else b""
    else:
        with tarfile.open(path) as archive:
            yield from _select(archive, names)


def _select(archive: tarfile.TarFile, names: set[str] | None) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        name = member.name.removeprefix("./")
        if not member.isfile() or (names is not None and name not in names):
            continue
        content = archive.extractfile(member)
        assert content is not None
        yield name, content.read() if names else b""
