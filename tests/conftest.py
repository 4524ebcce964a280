"""What several parts of the tests share."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of what the tests do: what one test or subprocess has compiled serves the
# others.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rvc_jax-tests-xla")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
os.environ.setdefault("XLA_FLAGS", xla_flags.fast_compile_flags(0))

# Features in the cache are those of the code, and the flags, that computed them: every session has
# a cache of its own, whatever the caller has; the workers of pytest-xdist share their session's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["RVC_JAX_HOME"] = tempfile.mkdtemp(prefix="rvc_jax-tests-home-")
    atexit.register(shutil.rmtree, os.environ["RVC_JAX_HOME"], ignore_errors=True)
os.environ.setdefault("RVC_JAX_OFFLINE", "1")

# Run with nohup, or in the background of a script, we would ignore these signals, and so would
# every process that a test starts and sends one: what is handled here is as usual there.
if threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)

import pytest

from rvc_jax.config import PrepareConfig
from rvc_jax.data.sources import find_bundled_sample

if TYPE_CHECKING:
    from local_media_server import MediaServer

SAMPLE_FILES = (
    "ivr-concentrate.flac",
    "ivr-founder_of_freesource.flac",
    "misc-wide_range_of_persons.flac",
    "vm-choose_password.flac",
    "vm-no_answer_no_vm.flac",
    "zrtp-check_sas.flac",
)


@pytest.fixture(scope="session")
def sample_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 32 seconds of the bundled voice, six files."""
    folder = tmp_path_factory.mktemp("speech") / "callie"
    folder.mkdir()
    for name in SAMPLE_FILES:
        shutil.copy(find_bundled_sample("voice") / name, folder)
    return folder


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A folder that the first worker of a session to want it makes, for all of them."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    base = factory.getbasetemp() if alone else factory.getbasetemp().parent
    folder = base / f"shared-{name}" / name
    done = base / f"shared-{name}" / "done"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def sample_dataset(sample_voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of `sample_voice` for the preset nano. Read it only; copy it to change it."""
    from rvc_jax.data.prepare import prepare

    return made_once(
        tmp_path_factory,
        "callie",
        lambda out: prepare(sample_voice, out, PrepareConfig(preset="nano")),
    )


@pytest.fixture(scope="session")
def media() -> dict[str, bytes]:
    """Two seconds of speech as files of several formats, by name."""
    from local_media_server import make_media

    return make_media(find_bundled_sample("voice") / "ivr-concentrate.flac", 2.0)


@pytest.fixture
def server(
    media: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MediaServer]:
    """A server on this machine that has the media; nothing asks a proxy for it, and nothing is
    fetched already."""
    from local_media_server import serving

    for proxy in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RVC_JAX_OFFLINE", "0")
    with serving(media) as running:
        yield running


@pytest.fixture(scope="session")
def tiny_run(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `sample_dataset` after a few steps, made by the command line. Read it only; copy it
    to change it."""
    from rvc_jax.cli.main import main

    def train(run: Path) -> None:
        options = ["--epochs", "4", "--evaluate-every", "2", "--log-every", "1"]
        assert main(["train", str(sample_dataset), "--run", str(run), *options]) == 0

    return made_once(tmp_path_factory, "tiny", train)


@pytest.fixture(scope="session")
def other_clip() -> Path:
    """Seven seconds of another speaker, 16 kHz."""
    return next(find_bundled_sample("other").glob("*.flac"))


@pytest.fixture
def every_kernel_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvc_jax.models.kernels.weight_norm.LARGE_KERNEL", 1)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of an emulated S3."""
    import fsspec

    from rvc_jax.storage import places as remote

    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RVC_JAX_OFFLINE": "0",
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class(
            "s3"
        ).clear_instance_cache()  # those of a server that is gone
        yield remote.filesystem("s3://speech")[0]
    finally:
        server.stop()


@pytest.fixture
def run_url() -> Iterator[str]:
    """A place for a run in an emulated object store in this process."""
    import fsspec

    memory = fsspec.filesystem("memory")
    yield "memory://bucket/voice"
    with contextlib.suppress(FileNotFoundError):
        memory.rm("/bucket", recursive=True)


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Call it to be on a machine that has never seen any run."""
    count = iter(range(100))

    def change() -> None:
        monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / f"home{next(count)}"))

    change()
    return change
