import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from rvc_jax.data.dataset import VERSION, load_dataset, read_info

VOICE = Path(__file__).parents[2] / "data" / "voice"


@pytest.fixture
def tfds_command():
    command = shutil.which("tfds", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("the command `tfds` is not installed")
    pytest.importorskip("apache_beam", reason="the command `tfds` needs it")
    return command


def test_tfds_build_makes_the_same_dataset_as_prepare(
    tfds_command, sample_voice, sample_dataset, tmp_path
):
    result = subprocess.run(
        [tfds_command, "build", "--data_dir", str(tmp_path), "--manual_dir", str(sample_voice)],
        cwd=VOICE,
        env=os.environ | {"PYTHONPATH": str(VOICE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    built = tmp_path / "voice" / "nano" / VERSION
    assert read_info(built) == read_info(sample_dataset)
    assert load_dataset(built).train.source == load_dataset(sample_dataset).train.source


def test_tfds_build_takes_the_bundled_sample_and_refuses_a_missing_folder(tmp_path):
    from rvc_jax.data.sources import find_bundled_sample
    from rvc_jax.data.tfds_builder import find_speech_folder, tfds
    from rvc_jax.errors import UserError

    def manager(**named):
        return tfds.download.DownloadManager(
            download_dir=tmp_path, manual_dir_instructions="x", **named
        )

    assert find_speech_folder(manager(manual_dir=tmp_path / "manual")) == find_bundled_sample(
        "voice"
    )
    with pytest.raises(UserError, match="missing"):
        find_speech_folder(manager(manual_dir=tmp_path / "missing"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.wav").write_bytes(b"x")
    assert find_speech_folder(manager(manual_dir=tmp_path / "mine")) == tmp_path / "mine"
