"""What a run's config.json may say, and which dataset it may lead to."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from made_runs import info
from micro import MICRO, MICRO_SMALL

from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.settings import parse_settings

FILE = Path("run/config.json")


def settings(of=MICRO, **changes) -> dict:
    """The config.json of a run; a name with __ is a path."""
    preset = json.loads(json.dumps(dataclasses.asdict(of)))
    content = {
        "format": "rvc_jax run",
        "preset": preset,
        "dataset": json.loads(json.dumps(info().to_dict())),
        "dataset_path": None,
    }
    for name, value in changes.items():
        *above, last = name.split("__")
        place = content
        for key in above:
            place = place[key]
        place[last] = value
    return content


def parse(**changes):
    return parse_settings(json.dumps(settings(**changes)).encode(), FILE)


def test_every_preset_is_possible():
    assert parse().preset == MICRO
    for preset in PRESETS.values():
        plain = json.loads(json.dumps(dataclasses.asdict(preset)))
        assert parse(preset=plain).preset == preset


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preset__generator__attention_layers", 10**6),
        ("preset__generator__attention_layers", "6"),
        ("preset__generator__attention_layers", 1.5),
        ("preset__generator__attention_layers", True),
        ("preset__generator__hidden_channels", -16),
        ("preset__generator__hidden_channels", 10**12),
        ("preset__generator__hidden_channels", 15),
        ("preset__generator__flow_steps", 0),
        ("preset__generator__upsample_rates", [10, 8, 3]),
        ("preset__generator__upsample_rates", [2] * 10**5),
        ("preset__generator__upsample_kernels", [20, 16]),
        ("preset__generator__resblock_dilations", [[1] * 60] * 2),
        ("preset__generator__resblock_dilations", [1, 3]),
        ("preset__generator__surprise", 1),
        ("preset__discriminator__periods", list(range(1, 65)) * 100),
        ("preset__discriminator__scale_groups", [1]),
        ("preset__audio__sample_rate", 0),
        ("preset__audio__f_max", float("nan")),
        ("preset__train__learning_rate", float("inf")),
        ("preset__train__epochs", 2**63),
        ("preset__train__optimizer", "sgd"),
        ("preset__version", "v9"),
        ("preset", []),
        ("dataset", None),
        ("dataset__speakers", "callie"),
        ("dataset__speakers", []),
        ("dataset__speakers", ["a", "b"]),
        ("dataset__speech_minutes", -1),
        ("dataset__files", 10**15),
        ("dataset__preset", "other"),
        ("dataset__content_channels", 10**9),
        ("dataset__dropped", [["a.wav"]]),
        ("dataset__config", {"holdout": "all"}),
        ("devices", 0),
        ("devices", 10**9),
        ("devices", "8"),
        ("dataset_path", 5),
        ("started_from", ["x"]),
    ],
)
def test_other_types_and_sizes_are_refused_at_once(name, value):
    content = json.dumps(settings(**{name: value})).encode()
    begin = time.process_time()
    with pytest.raises(UserError, match=r"config\.json is damaged") as caught:
        parse_settings(content, FILE)
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("generator__channels", 0, "channels is 0"),
        ("generator__channels", "16", "int"),
        ("generator__channels", 2**16 - 1, "values for every frame"),
        ("generator__step_channels", 40_000, "values for every frame"),
        ("generator__expansion", 2**15, "values for every frame"),
        ("generator__speaker_channels", -1, "speaker_channels is -1"),
        ("generator__speaker_channels", 2**17, "speaker_channels is"),
        ("generator__frame_blocks", 65, "more layers than any voice"),
        ("generator__step_blocks", 2**16, "more layers than any voice"),
        ("generator__content_dilations", [1] * 65, "content_dilations has 65 values"),
        ("generator__content_dilations", [2**16], "dilations up to 65536"),
        ("generator__content_dilations", 5, "array"),
        ("generator__content_dilations", [[1]], "int"),
        ("generator__kernel", 4, "kernels of 4"),
        ("generator__kernel", 65, "kernels of 65"),
        ("generator__steps_per_frame", 3, "3 spectra a frame do not fit 16000 Hz"),
        ("generator__steps_per_frame", 160, "160 spectra a frame do not fit"),
        ("generator__has_pitch", False, "has_pitch|pitch"),
        ("generator__has_pitch", None, "pitch"),
        ("generator__upsample_rates", [10], "upsample_rates"),
        ("audio__sample_rate", 192_001, "sample_rate is"),
        ("audio__mel_scales", [[1024]], "mel_scales|length"),
        ("audio__mel_scales", [[1024, 80], [510, 40]], "window of 510 samples"),
        ("audio__mel_scales", [[8192, 80]], "window of 8192 samples"),
        ("audio__mel_scales", [[256, 200]], "is not a window and a number of mel bands"),
        ("audio__mel_scales", [[256, 0]], "mel_scales is 0"),
        ("discriminator__spectra", [4096 * 4], "window of 16384 samples"),
        ("discriminator__spectra", [250], "window of 250 samples"),
        ("discriminator__spectrum_channels", [8] * 65, "spectrum_channels has 65 values"),
        ("discriminator__spectra", [256] * 65, "spectra has 65 values"),
        ("discriminator__spectrum_kernel", 2, "spectrum_kernel is 2"),
        ("discriminator__scale_channels", [4], "do not fit together"),
    ],
)
def test_sizes_of_the_small_preset_have_limits(name, value, reason):
    content = json.dumps(settings(MICRO_SMALL, **{f"preset__{name}": value})).encode()
    begin = time.process_time()
    with pytest.raises(UserError, match=rf"config\.json is damaged.*({reason})"):
        parse_settings(content, FILE)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("speakers", "speaker_channels"),
        ("content_channels", "channels"),
        ("speaker_channels", "channels"),
        ("expansion", "channels"),
    ],
)
def test_sizes_that_multiply_are_limited_together(name, other):
    """Either of the two is possible; both would ask for gigabytes."""
    large = {"expansion": 40, "channels": 1600}
    alone = {name: large.get(name, 60_000)}, {other: large.get(other, 60_000)}
    together = {
        f"preset__generator__{key}": value for one in alone for key, value in one.items()
    }
    with pytest.raises(UserError, match=r"parameters, more than any voice"):
        parse_settings(json.dumps(settings(MICRO_SMALL, **together)).encode(), FILE)


def test_a_run_without_discriminators_is_refused():
    nobody = {"preset__discriminator__periods": [], "preset__discriminator__spectra": []}
    with pytest.raises(UserError, match="do not fit together"):
        parse_settings(json.dumps(settings(MICRO_SMALL, **nobody)).encode(), FILE)


def test_another_programs_file_is_said_to_be_one():
    for content in (b"{}", b"[]", b"5", b'{"format": "other"}'):
        with pytest.raises(UserError, match="another program's"):
            parse_settings(content, FILE)


@pytest.mark.parametrize(
    ("place", "run", "is_read"),
    [
        ("gs://bucket/data", "gs://bucket/run", True),
        ("gs://bucket/data", "gs://bucket2/run", False),
        ("gs://bucket/data", "s3://bucket/run", False),
        ("gs://bucket/data", "/local/run", False),
        ("s3://bucket/data", "s3://bucket/a/b", True),
        ("http://bucket/data", "http://bucket/run", False),
        ("simplecache::gs://bucket/data", "gs://bucket/run", False),
        ("gs://bucket/::http://x", "gs://bucket/run", False),
        ("/local/data", "gs://bucket/run", True),
        ("/local/data", "/local/run", True),
    ],
)
def test_an_address_that_only_the_run_names_is_used_within_its_bucket(place, run, is_read):
    folder = RunFolder(Path("copy"), MICRO, info(), place)
    assert folder.find_dataset("/named", run) == "/named"
    if is_read:
        assert folder.find_dataset(None, run) == place
    else:
        with pytest.raises(UserError, match="if you trust it, name it with --dataset"):
            folder.find_dataset(None, run)


def test_a_run_without_a_dataset_asks_for_one():
    with pytest.raises(UserError, match="name it with --dataset"):
        RunFolder(Path("run"), MICRO, info(), None).find_dataset(None, "run")
