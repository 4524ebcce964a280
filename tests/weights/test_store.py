"""The cache of weights: what it takes, keeps, refuses and says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from reporting import KeepingReporter
from weights_server import (
    CONTENT,
    OTHER,
    WHOLE,
    Handler,
    Server,
    endless,
    left,
    refusal,
    serve,
    sha256,
    status,
)

from rvc_jax.weights import store
from rvc_jax.weights.registry import WeightsEntry, WeightsFile

pytestmark = pytest.mark.usefixtures("home")

# --- the good case ---


def test_a_download_is_verified_recorded_and_done_once(
    server: Server, register: Callable, home: Path
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    assert store.find("toy") is None
    reporter = KeepingReporter()
    path = store.path("toy", reporter)
    assert path == home / "weights/toys/toy.pth" and path.read_bytes() == CONTENT
    total = len(CONTENT)
    assert reporter.steps[0] == ("download", 0, total, "toy.pth")
    assert reporter.steps[-1] == ("download", total, total, "toy.pth")
    done = [step.done for step in reporter.steps]
    assert done == sorted(done)
    assert left(home) == WHOLE
    record = json.loads((home / "weights/toys/toy.pth.download.json").read_text())
    assert record["sha256"] == sha256(CONTENT) and record["url"] == f"{server.url}/toy.pth"
    assert store.path("toy") == store.find("toy") == path
    assert len(server.requests) == 1


def test_an_entry_of_several_files_is_a_folder(
    server: Server, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    files = []
    for name, content in (("config.json", b"{}"), ("pytorch_model.bin", CONTENT)):
        server.paths[f"/{name}"] = serve(content)
        files.append(WeightsFile(f"toy/{name}", (f"{server.url}/{name}",)))
    monkeypatch.setitem(store.ENTRIES, "toy", WeightsEntry("toy", tuple(files), "MIT", "a toy"))
    assert store.path("toy") == home / "weights/toy"
    assert (home / "weights/toy/pytorch_model.bin").read_bytes() == CONTENT
    (home / "weights/toy/config.json").unlink()
    assert store.find("toy") is None


def test_a_name_that_is_not_registered() -> None:
    assert "no weights are known as 'nonsense'" in refusal("nonsense")
    assert "no weights are known as '../../etc/passwd'" in refusal(
        "../../etc/passwd", store.find
    )


def test_where_the_cache_is(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.folder() == home / "weights"
    monkeypatch.delenv("RVC_JAX_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.folder() == tmp_path / "xdg/rvc_jax/weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".cache/rvc_jax/weights"


# --- no network, another network ---


def test_without_a_network_there_is_one_line(
    server: Server, register: Callable, home: Path
) -> None:
    register(f"{server.url}/toy.pth")
    server.close()
    text = refusal()
    assert "it cannot be reached: Connection refused" in text and "RVC_JAX_MIRROR" in text
    assert left(home) == []


@pytest.mark.parametrize("value", ["1", "yes"])
def test_offline_nothing_is_asked(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch, home: Path, value: str
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    monkeypatch.setenv("RVC_JAX_OFFLINE", value)
    text = refusal()
    place = home / "weights/toys/toy.pth"
    assert (
        "toy.pth is not in the cache, and RVC_JAX_OFFLINE" in text
        and f"put the file of {server.url}" in text
    )
    place.parent.mkdir(parents=True)
    place.write_bytes(OTHER)
    assert "toy.pth in the cache is not as it was downloaded" in refusal()
    assert place.read_bytes() == OTHER, "a file that the user put there is not removed"
    place.write_bytes(CONTENT)
    assert store.path("toy") == place
    assert not server.requests
    place.unlink()
    monkeypatch.setenv("RVC_JAX_OFFLINE", "0")
    assert store.path("toy") == place


def test_a_mirror_is_asked_instead(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVC_JAX_MIRROR", f"{server.url}/mirror/")
    path = "owner/name/resolve/main/sub/toy.pth"
    cases = {
        f"https://huggingface.co/{path}": f"/mirror/{path}",
        "https://example.org/deep/path/toy.pth": "/mirror/toy.pth",
        "https://example.org/wheels/toys.whl#toys/assets/toy.pth": "/mirror/toy.pth",
    }
    for url, asked in cases.items():
        server.paths = {asked: serve(CONTENT)}
        register(url)
        assert store.path("toy").read_bytes() == CONTENT
        assert server.requests[-1].path == asked
        store.path("toy").unlink()
    register(*cases)
    server.paths.clear()
    server.requests.clear()
    refusal()
    assert [request.path for request in server.requests] == list(dict.fromkeys(cases.values()))


@pytest.mark.parametrize(
    "mirror", ["file:///srv", "ftp://host", "host/path", "https://a b", "https://"]
)
def test_a_mirror_that_is_none(
    register: Callable, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    register("https://huggingface.co/toy.pth")
    monkeypatch.setenv("RVC_JAX_MIRROR", mirror)
    assert "RVC_JAX_MIRROR is" in refusal()


# --- hashes that are not known in advance ---


def test_the_first_download_counts(server: Server, register: Callable, home: Path) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth", content=None)
    path = store.path("toy")
    path.unlink()
    server.paths["/toy.pth"] = serve(OTHER, '"two"')
    text = refusal()
    record = home / "weights/toys/toy.pth.download.json"
    assert (
        f"the one that was downloaded first had {sha256(CONTENT)}: refused and removed" in text
    )
    assert f"delete {record}" in text
    assert left(home) == [WHOLE[1]]
    record.unlink()
    assert store.path("toy").read_bytes() == OTHER


def test_a_file_that_was_put_there_is_taken_and_recorded(
    register: Callable, home: Path
) -> None:
    register("https://huggingface.co/toy.pth", content=None)
    place = home / "weights/toys/toy.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert store.path("toy") == place
    place.write_bytes(OTHER[:-1])
    assert store.find("toy") is None


# --- the cache ---


@pytest.mark.parametrize("pinned", [True, False])
def test_a_damaged_file_in_the_cache_is_noticed_and_replaced(
    server: Server, register: Callable, pinned: bool
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth", content=CONTENT if pinned else None)
    path = store.path("toy")
    for damage in (CONTENT[:-1], CONTENT[:-1] + b"?", b""):
        before = path.stat()
        path.write_bytes(damage)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert store.find("toy") is None
        assert store.path("toy").read_bytes() == CONTENT


def test_a_file_that_was_only_touched_is_read_again_and_kept(
    server: Server, register: Callable
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    path = store.path("toy")
    os.utime(path)
    assert store.path("toy") == path and len(server.requests) == 1


def test_a_verified_file_is_not_read_again(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    path = store.path("toy")
    monkeypatch.setattr(store, "file_sha256", lambda path: pytest.fail("it is read again"))
    assert store.find("toy") == path and store.fingerprint(path) == sha256(CONTENT)


def test_a_note_without_a_hash_is_not_believed(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth", content=None)
    path = store.path("toy")
    note = path.with_name("toy.pth.download.json")
    for value in (1, None, ["0" * 64]):
        note.write_text(json.dumps(json.loads(note.read_text()) | {"sha256": value}))
        assert store.fingerprint(path) == sha256(CONTENT) and store.find("toy") == path


def test_processes_at_once_download_once(server: Server, home: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        for begin in range(0, len(CONTENT), 100_000):
            handler.wfile.write(CONTENT[begin : begin + 100_000])
            time.sleep(0.05)

    server.paths["/toy.pth"] = slow
    code = f"""
from rvc_jax.weights import store
from rvc_jax.weights.registry import WeightsEntry, WeightsFile
file = WeightsFile("toys/toy.pth", ("{server.url}/toy.pth",), "{sha256(CONTENT)}", {len(CONTENT)})
store.ENTRIES["toy"] = WeightsEntry("toy", (file,), "MIT", "a toy")
print(store.fingerprint(store.path("toy")))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [
        sha256(CONTENT)
    ] * 3
    assert len(server.requests) == 1 and left(home) == WHOLE


def test_threads_at_once_download_once(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(store.path("toy"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(paths) == 4 and len(server.requests) == 1


def test_a_small_disk_is_refused_beforehand(
    server: Server, register: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000_000))
    assert (
        "disk full: " in (text := refusal())
        and "10.0 MB free, the download needs 65.5 MB" in text
    )
    assert left(home) == []


def test_a_cache_that_cannot_be_written_to(register: Callable, home: Path) -> None:
    home.write_text("a file where the folder should be")
    register("https://huggingface.co/toy.pth")
    assert "cannot be written" in refusal()


# --- files inside of others ---


def archive(member: str = "toys/assets/toy.pth", content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("toys/__init__.py", "")
        members.writestr(member, content)
    return buffer.getvalue()


def test_a_wheel_that_pip_fetches(
    register: Callable, home: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    name = "toys-1.0.dist-info"
    with zipfile.ZipFile(folder / "toys-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toys/assets/toy.pth", CONTENT)
        wheel.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
        wheel.writestr(
            f"{name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    register("pip:toys==1.0#toys/assets/toy.pth")
    place = store.path("toy")
    assert place.read_bytes() == CONTENT
    place.unlink()
    register("pip:toys==2.0#toys/assets/toy.pth")
    assert "toys==2.0" in refusal()


def test_a_member_of_a_wheel(server: Server, register: Callable, home: Path) -> None:
    content = archive()
    server.paths["/toys.whl"] = [serve(content, until=500_000), serve(content)]
    register(f"{server.url}/toys.whl#toys/assets/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT and left(home) == WHOLE
    assert server.requests[1].headers["Range"] == "bytes=500000-"


@pytest.mark.parametrize(
    "content",
    [
        archive("toys/other.pth"),
        archive("toys/assets/toy.pth/"),
        archive(content=OTHER),
        archive()[:-1000],
        archive()[:50] + bytes(1000) + archive()[1050:],
        b"no archive",
        b"",
    ],
    ids=["other", "folder", "wrong", "cut", "damaged", "text", "empty"],
)
def test_archives_that_are_not_as_they_must_be(
    server: Server, register: Callable, home: Path, content: bytes
) -> None:
    server.paths["/toys.whl"] = serve(content)
    register(f"{server.url}/toys.whl#toys/assets/toy.pth")
    refusal()
    assert not [name for name in left(home) if name.endswith((".zip", "toy.pth"))]
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toys.whl#toys/assets/toy.pth", f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT and left(home) == WHOLE


def test_a_member_that_is_too_large_is_not_unpacked(server: Server, register: Callable) -> None:
    server.paths["/toys.whl"] = serve(archive(content=bytes(10**8)))
    register(f"{server.url}/toys.whl#toys/assets/toy.pth")
    assert "its member toys/assets/toy.pth is larger than it can be" in refusal()


def test_an_installed_package_is_used_and_not_imported(
    server: Server, register: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toybox" / "assets").mkdir(parents=True)
    (tmp_path / "toybox" / "__init__.py").write_text("raise SystemExit('imported')")
    carried = tmp_path / "toybox" / "assets" / "toy.pth"
    carried.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth", package="toybox", member="assets/toy.pth")
    assert store.path("toy") == store.find("toy") == carried and not server.requests
    carried.write_bytes(OTHER)
    assert store.find("toy") is None
    assert store.path("toy").read_bytes() == CONTENT and len(server.requests) == 1


# --- models of the hub ---


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("RVC_JAX_MIRROR", server.url)
    server.paths["/owner/name/resolve/main/config.json"] = serve(b"{}")
    return server


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_of_the_hub(
    hub: Server, home: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    hub.paths[f"/owner/name/resolve/main/{weights}"] = serve(CONTENT)
    folder = store.hub_model("owner/name")
    assert (
        folder == home / "weights/hub/owner/name" and (folder / weights).read_bytes() == CONTENT
    )
    first = store.fingerprint(folder)
    monkeypatch.setenv("RVC_JAX_OFFLINE", "1")
    assert store.hub_model("owner/name") == folder
    monkeypatch.delenv("RVC_JAX_OFFLINE")
    (folder / weights).unlink()
    hub.paths[f"/owner/name/resolve/main/{weights}"] = serve(OTHER)
    assert "downloaded first" in refusal("owner/name", store.hub_model)
    (folder / f"{weights}.download.json").unlink()
    assert store.fingerprint(store.hub_model("owner/name")) != first


def test_models_that_the_hub_does_not_have_or_give(hub: Server) -> None:
    assert "holds neither model.safetensors nor pytorch_model.bin" in refusal(
        "owner/name", store.hub_model
    )
    assert "config.json could not be downloaded" in refusal("owner/other", store.hub_model)
    hub.paths["/owner/secret/resolve/main/config.json"] = status(401)
    assert "does not give it out, if it has it (HTTP 401)" in refusal(
        "owner/secret", store.hub_model
    )
    hub.paths["/owner/name/resolve/main/model.safetensors"] = status(503)
    assert "HTTP 503" in refusal("owner/name", store.hub_model)


def test_a_configuration_without_end_is_cut(hub: Server, home: Path) -> None:
    hub.paths["/owner/name/resolve/main/config.json"] = endless
    assert "it sends more than 1.0 MB" in refusal("owner/name", store.hub_model)
    assert left(home) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "name",
        "/",
        "owner/",
        "/name",
        "owner/name/more",
        "../name",
        "owner/..",
        "./name",
        "owner/.",
        "..",
        "a/b..c",
        ".owner/name",
        "owner/.name",
        "-owner/name",
        "owner\\..\\name",
        "owner/na me",
        "owner/name\n",
        "owner/name\0",
        "owner/name?x",
        "owner/name#x",
        "owner/%2e%2e",
        "owner/näme",
        "https://huggingface.co/owner/name",
        "o" * 97 + "/n",
        "owner/name.git",
        "owner/name.",
    ],
)
def test_hostile_names_are_refused(hub: Server, home: Path, name: str) -> None:
    assert "is not the name of a model" in refusal(name, store.hub_model)
    assert not hub.requests and not home.exists()


# --- fingerprints ---


def test_a_fingerprint_is_the_hash_and_follows_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTENT)
    assert store.fingerprint(path) == store.fingerprint(str(path)) == sha256(CONTENT)
    calls: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        store.hashlib, "file_digest", lambda *call: calls.append(call) or digest(*call)
    )
    assert store.fingerprint(path) == sha256(CONTENT) and not calls
    path.write_bytes(OTHER)
    os.utime(path, ns=(0, 1))
    assert store.fingerprint(path) == sha256(OTHER) and len(calls) == 1


def test_a_note_beside_a_file_outside_of_the_cache_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTENT)
    state = path.stat()
    note = {"sha256": "0" * 64, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    (tmp_path / "model.pt.download.json").write_text(json.dumps(note))
    assert store.fingerprint(path) == sha256(CONTENT)


def test_the_fingerprint_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    (tmp_path / "optimizer.pt").write_bytes(OTHER)
    first = store.fingerprint(tmp_path)
    (tmp_path / "optimizer.pt").unlink()
    assert store.fingerprint(tmp_path) == first
    (tmp_path / "config.json").write_text('{"layers": 12}')
    assert store.fingerprint(tmp_path) != first


def test_fingerprints_of_what_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "gone.pt", store.fingerprint)
    assert "holds no model" in refusal(tmp_path, store.fingerprint)
