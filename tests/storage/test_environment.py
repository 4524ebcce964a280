"""The cache folder and the process's memory."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.errors import UserError
from rvc_jax.storage.environment import (
    cache_dir,
    describe_environment_error,
    peak_memory,
    settle_variables,
    silence_libraries,
)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "named"))
    assert cache_dir() == tmp_path / "named"
    monkeypatch.delenv("RVC_JAX_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "rvc_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "rvc_jax"


def test_libraries_are_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("orbax")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr("warnings.simplefilter", lambda action: None)
    silence_libraries()
    logger.error("a remark")
    assert not caplog.records
    logger.critical("the end")
    assert [record.message for record in caplog.records] == ["the end"]


def test_peak_memory_never_falls() -> None:
    before = peak_memory()
    assert before > 10_000_000
    array = np.ones(16_000_000)
    assert peak_memory() >= before and array.nbytes == 128_000_000


@pytest.mark.parametrize(
    ("name", "value", "is_set_aside"),
    [
        ("JAX_ENABLE_X64", "1", True),
        ("JAX_ENABLE_X64", "0", False),
        ("JAX_ENABLE_X64", "false", False),
        ("JAX_DISABLE_JIT", "true", True),
        ("JAX_DEBUG_NANS", "True", True),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict", True),
        ("JAX_NUMPY_DTYPE_PROMOTION", "standard", False),
        ("JAX_PLATFORMS", "cpu", False),
    ],
)
def test_variables_that_break_the_program_are_set_aside(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_set_aside: bool
) -> None:
    monkeypatch.setenv(name, value)
    settle_variables()
    assert (name not in os.environ) == is_set_aside


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 is ignored: everything here is computed"),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS=nonsense: Unable to initialize backend"),
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda: "),
        ({"JAX_NUM_CPU_DEVICES": "two"}, "JAX_NUM_CPU_DEVICES=two: "),
        ({"XLA_FLAGS": "--xla_nonsense=1"}, "XLA has no flag --xla_nonsense"),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true", "JAX_PLATFORMS": "cpu"}, ""),
    ],
)
def test_a_wrong_variable_is_named(settings: dict[str, str], message: str) -> None:
    code = (
        "from rvc_jax.errors import UserError\n"
        "from rvc_jax.storage.environment import silence_libraries, start_jax\n"
        "silence_libraries()\n"
        "try: start_jax()\n"
        "except UserError as error: print(error)"
    )
    environment = {**os.environ, **settings}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    printed = done.stdout + done.stderr
    assert message in printed and len(printed.splitlines()) == (1 if message else 0)


def test_an_error_that_names_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_GPU_THREADS", "many\x1b")
    error = ValueError("bad value of tf_gpu_threads\nand more")
    assert describe_environment_error(error) == (
        "TF_GPU_THREADS=many?: bad value of tf_gpu_threads; correct the variable, or unset it"
    )
    assert describe_environment_error(ValueError("TF_GPU_THREADS_2")) is None


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("RVC_JAX_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(UserError, match="RVC_JAX_HOME"):
        cache_dir()
