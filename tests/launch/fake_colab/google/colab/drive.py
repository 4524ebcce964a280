from pathlib import Path

from google.colab import note


def mount(mountpoint: str) -> None:
    note("mount", mountpoint)
    (Path(mountpoint) / "MyDrive").mkdir(parents=True, exist_ok=True)


def flush_and_unmount(timeout_ms: int = 86_400_000) -> None:
    note("flush", timeout_ms)
