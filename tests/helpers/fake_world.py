"""A world without Google: a fake `gcloud` on the PATH, hosts that are folders, and what the tests
ask of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from fake_cloud import CLIENT, Cloud, Rule

HERE = Path(__file__).parents[1] / "launch"
LAUNCH = HERE.parents[1] / "launch" / "gcp"
RUN = ("--dataset", "gs://speech/dataset", "--run", "gs://speech/run")
FAST = ("--poll", "2s")


class World:
    """What exists, what is asked for and what goes wrong; `tpu` runs in it.

    hosts: of every slice; by default those of its type. second: the length of a second of all that
    `tpu` waits for.
    """

    def __init__(self, folder: Path, hosts: int = 0, second: float = 0.05):
        self.path = folder
        self.cloud = Cloud(folder, hosts)
        self.environment = {
            "PATH": f"{folder / 'user'}:/usr/bin:/bin",
            "HOME": str(folder),
            "FAKE_CLOUD": str(folder),
            "RVC_JAX_SECOND": str(second),
            "RVC_JAX_TAKEOVER": "0",
            "RVC_JAX_RETRY": "1",
        }
        for name in ("user", "bin", "out"):
            (folder / name).mkdir()
        gcloud = CLIENT.format(port=self.cloud.start())
        self._program("user/gcloud", gcloud)
        self._program("bin/gcloud", gcloud)
        self._program("bin/python3.13", (HERE / "fake_python").read_text())
        for name in ("sudo", "systemd-run", "systemctl", "shutdown"):
            self._program(
                f"bin/{name}", f'#!/bin/sh\necho "{name} $*" >>"$FAKE_CLOUD/host-commands"\n'
            )
        self._program(
            "bin/curl",
            '#!/bin/sh\nfor last; do :; done\ncat "$FAKE_CLOUD/metadata/${last##*/}"\n',
        )
        self.trains(0)

    def _program(self, name: str, text: str) -> None:
        file = self.path / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def hosts_have(self, **programs: str) -> None:
        """Programs of the hosts, as shell scripts."""
        for name, script in programs.items():
            self._program(f"bin/{name}", f"#!/bin/bash\n{script}\n")

    def trains(self, seconds: float, code: int = 0) -> None:
        """What the trainings from here on do."""
        (self.path / "trainer").write_text(f"{seconds} {code}\n")

    def goes_wrong(self, match: str, stderr: str = "", **more: Any) -> None:
        """A call of gcloud that matches fails, saying this. more: of a Rule."""
        if stderr:
            more["script"] = f"echo {shlex.quote(stderr)} >&2; exit 1"
        elif "script" not in more:
            more["effect"] = True
        self.cloud.rules.append(Rule(match, **more))

    def trains_really(self, dataset: Path) -> None:
        """Hosts run rvc-jax with a very small preset, and find each other as processes of Open MPI
        do."""
        bucket = self.path / "buckets" / "speech"
        bucket.mkdir(parents=True)
        shutil.copytree(dataset, bucket / "dataset")
        names = (
            "JAX_COMPILATION_CACHE_DIR",
            "XLA_FLAGS",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        )
        known = [f"export {name}={shlex.quote(os.environ[name])}" for name in names]
        job = (free_port() - 61440) * 4096  # as jax makes a port of it
        lines = [
            "#!/usr/bin/env bash",
            *known,
            "export JAX_PLATFORMS=cpu RVC_JAX_OFFLINE=1",
            f"export PYTHONPATH={shlex.quote(str(HERE.parents[1]))}",
            "export OMPI_COMM_WORLD_LOCAL_RANK=0",
            f"export 'OMPI_MCA_orte_hnp_uri={job}.0;tcp://127.0.0.1:1'",
            "export OMPI_COMM_WORLD_SIZE=$FAKE_HOST_COUNT OMPI_COMM_WORLD_RANK=$FAKE_HOST",
            f"exec {sys.executable} {HERE.parent / 'micro.py'} "
            '"${@/#gs:\\/\\//$FAKE_CLOUD/buckets/}"',
        ]
        self._program("program", "\n".join(lines) + "\n")

    def command(self, *words: str) -> list[str]:
        return [
            "bash",
            str(LAUNCH / "tpu"),
            words[0],
            "my-voice",
            "--zone",
            "us-west4-a",
            *words[1:],
        ]

    def tpu(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """A sub-command for the slice my-voice in us-west4-a, with further words."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            cwd=self.path / "out",
            text=True,
            capture_output=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words),
            env=self.environment,
            cwd=self.path / "out",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def calls(self) -> list[list[str]]:
        """Words of every call of gcloud, other than for its settings."""
        return [words for words in self.cloud.calls if words[0] != "config"]

    def matching(self, pattern: str) -> list[str]:
        return [line for line in map(" ".join, self.calls) if re.search(pattern, line)]

    @property
    def slices(self) -> dict[str, Any]:
        """What exists, and costs."""
        return self.cloud.slices

    @property
    def deleted(self) -> int:
        """Slices that were there and were deleted."""
        return self.cloud.deleted

    def homes(self) -> list[Path]:
        """Of all hosts that there ever were, by age and number."""
        return sorted(
            (self.path / "hosts").glob("*"),
            key=lambda path: [int(n) for n in path.name.split("-")[-2:]],
        )

    def words(self, home: Path, command: str = "train") -> list[str]:
        """What a host's rvc-jax was called with, last."""
        words = (home / f"{command}-words").read_bytes().decode().split("\0")[:-1]
        return words[len(words) - words[::-1].index(command) - 1 :]

    def host_commands(self) -> list[str]:
        """What hosts asked their own system."""
        file = self.path / "host-commands"
        return file.read_text().splitlines() if file.exists() else []


def free_port() -> int:
    """One of those that jax takes under Open MPI."""
    for port in range(61440 + os.getpid() % 2000, 65536):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


def real_environment() -> dict[str, str]:
    """For the real gcloud: without an account, and with no way to reach Google."""
    return os.environ | {
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_PROJECT": "my-project",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": "http://127.0.0.1:9/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": "http://127.0.0.1:9/",
    }
