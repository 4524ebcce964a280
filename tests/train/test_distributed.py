"""Several processes over localhost: the losses of one, a run that goes on elsewhere, ends that all
of them take."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import pytest
from on_devices import run_on_devices, start_on_devices

from rvc_jax.config import ClusterConfig, TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train import distributed
from rvc_jax.train.distributed import wait_for_all
from rvc_jax.train.optimizer import scale_learning_rate
from rvc_jax.train.resume import resolve_device_count

HELPERS = Path(__file__).parents[1] / "helpers"


def start(
    dataset: Path, run: Path, devices: int, cluster: dict[str, Any], **options: Any
) -> subprocess.Popen[str]:
    options = {"log_every": 1, "evaluate_every": 1000, "save_every": 1000} | options
    script = HELPERS / "cluster_process.py"
    return start_on_devices(
        devices, script, dataset, run, json.dumps(options), json.dumps(cluster)
    )


def start_two(dataset: Path, run: Path, **options: Any) -> list[subprocess.Popen[str]]:
    """Two processes of two devices each."""
    cluster = {"coordinator": f"localhost:{free_port()}", "processes": 2}
    options |= {"batch_per_chip": 2}
    return [
        start(dataset, run, 2, cluster | {"process": process}, **options)
        for process in range(2)
    ]


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the result that a process prints when its run has ended."""
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def losses(run: Path) -> list[dict[str, float]]:
    lines = (json.loads(line) for line in (run / "history.jsonl").read_text().splitlines())
    return [
        {name: line[name] for name in line if name.startswith("loss/")}
        for line in lines
        if "loss/mel" in line
    ]


@pytest.fixture(scope="module")
def together(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with two devices each, a batch of 8 in all; two epochs of two steps in
    four programs. The windows are read from disk."""
    run = tmp_path_factory.mktemp("together") / "run"
    for process in start_two(
        sample_dataset, run, epochs=2, is_split=True, memory_gigabytes=1e-9
    ):
        assert ended(process)["steps"] == 4
    return run


@pytest.fixture(scope="module")
def alone(
    sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, float]]:
    """Losses of one device with the same batch, for three epochs."""
    run = tmp_path_factory.mktemp("alone") / "run"
    ended(start(sample_dataset, run, 1, {}, epochs=3))
    assert len(losses(run)) == 6
    return losses(run)


def test_two_processes_give_the_losses_of_one(
    together: Path, alone: list[dict[str, float]]
) -> None:
    for one, two in zip(alone[:4], losses(together), strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_the_first_process_alone_writes_the_run(together: Path) -> None:
    assert RunFolder.open(together).devices == 4
    assert checkpoint.list_steps(together / "checkpoints") == [4]
    assert checkpoint.verify(together / "checkpoints" / "4") is None
    assert len(losses(together)) == 4  # not twice


def test_a_run_goes_on_with_its_batch_on_other_devices(
    sample_dataset: Path, together: Path, alone: list[dict[str, float]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(together, run)
    result = ended(start(sample_dataset, run, 1, {}, epochs=3))
    assert (result["resumed_from"], result["steps"], result["epochs"]) == (4, 6, 3)
    for one, two in zip(alone[4:], losses(run)[4:], strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_a_batch_that_cannot_be_divided_is_refused(
    together: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = RunFolder.open(together).preset
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(
        UserError,
        match="on 4 accelerators with 8 windows .* among 3: continue it on 1, 2, 4 or 8",
    ):
        resolve_device_count(together, preset)


def test_devices_exchange_nothing_but_gradients() -> None:
    assert set(run_on_devices(4, HELPERS / "mesh_collectives.py").split()) == {"all-reduce"}


def test_a_signal_to_one_process_ends_all(sample_dataset: Path, tmp_path: Path) -> None:
    first, second = start_two(sample_dataset, tmp_path / "run", epochs=1000)
    for line in first.stdout:
        if line.startswith("{") and json.loads(line).get("step") == 3:
            second.send_signal(signal.SIGTERM)
            break
    results = [ended(process) for process in (first, second)]
    assert results[0]["interrupted"] and results[0]["steps"] == results[1]["steps"] < 30
    assert checkpoint.list_steps(tmp_path / "run" / "checkpoints") == [results[0]["steps"]]


def test_a_mistake_ends_all_with_the_same_words(sample_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("not a run")
    for process in start_two(sample_dataset, tmp_path / "run"):
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 2
        assert "is not empty and holds no run of rvc-jax" in errors


def test_a_mistake_of_the_second_process_ends_the_first_as_well(
    sample_dataset: Path, tmp_path: Path
) -> None:
    cluster = {"coordinator": f"localhost:{free_port()}", "processes": 2}
    there = start(sample_dataset, tmp_path / "run", 1, cluster | {"process": 0})
    absent = start(tmp_path / "nowhere", tmp_path / "run", 1, cluster | {"process": 1})
    for process, told in ((absent, "nowhere"), (there, "process 1: ")):
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 2
        assert told in errors and "nowhere" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "cluster",
    [
        ClusterConfig(coordinator="here:1"),
        ClusterConfig(processes=2),
        ClusterConfig(process=0),
        ClusterConfig("here:1", 1, 0),
        ClusterConfig("here:1", 2),
    ],
)
def test_half_a_description_is_refused(cluster: ClusterConfig) -> None:
    with pytest.raises(UserError, match="go together"):
        distributed.join(cluster)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def test_processes_wait_for_each_other() -> None:
    port = free_port()
    with ThreadPoolExecutor() as pool:
        waiting = [
            pool.submit(wait_for_all, f"localhost:{port}", 3, process, 20) for process in (1, 0)
        ]
        with socket.create_connection(("localhost", wait_until_open(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert not wait(waiting, timeout=0.5).done
        wait_for_all(f"localhost:{port}", 3, 2, 20)
        for process in waiting:
            process.result(timeout=20)


def wait_until_open(port: int) -> int:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
            return port
        time.sleep(0.05)
    raise TimeoutError


def test_who_does_not_come_is_named() -> None:
    port = free_port()
    with ThreadPoolExecutor() as pool:
        one = pool.submit(wait_for_all, f"localhost:{port}", 4, 2, 1.5)
        with pytest.raises(
            UserError, match=r"not all of 4 processes came in 1 s; absent: 1, 3"
        ):
            wait_for_all(f"localhost:{port}", 4, 0, 1)
        with pytest.raises(UserError, match="did not answer"):
            one.result(timeout=20)


@pytest.mark.parametrize(
    ("coordinator", "process", "match"),
    [
        ("here", 0, "HOST:PORT"),
        ("here:x", 0, "HOST:PORT"),
        ("here:99999", 1, "HOST:PORT"),
        ("here:80", 2, "from 0 to 1"),
    ],
)
def test_a_wrong_description_is_refused(coordinator: str, process: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        wait_for_all(coordinator, 2, process, 1)


@pytest.mark.parametrize(
    ("environment", "peers"),
    [
        ({}, False),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
        ({"SLURM_NTASKS": "4"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-4]"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_the_environment_tells_of_peers(
    environment: dict[str, str], peers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "SLURM_NTASKS",
        "SLURM_STEP_NODELIST",
        "OMPI_COMM_WORLD_SIZE",
        "TPU_WORKER_HOSTNAMES",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert distributed.has_peers() is peers


def test_a_larger_batch_may_raise_the_learning_rate() -> None:
    def rate(rule: str, batch: int) -> float:
        return scale_learning_rate(
            TrainConfig(learning_rate=1e-4, scale_learning_rate=rule), batch
        ).learning_rate

    assert rate("none", 64) == 1e-4
    assert rate("linear", 64) == pytest.approx(8e-4) and rate("sqrt", 64) == pytest.approx(
        8**0.5 * 1e-4
    )
    assert rate("linear", 4) == rate("sqrt", 8) == 1e-4
