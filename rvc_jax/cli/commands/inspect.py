"""`rvc-jax inspect`."""

from __future__ import annotations

from typing import Any

from rvc_jax.cli.display import format_drop, print_result
from rvc_jax.cli.options import Json, Place


def inspect(dataset: Place, as_json: Json = False) -> int:
    """Tell what a dataset holds: counts, minutes, settings, what was dropped, and the shapes of one
    record.

    Args:
        dataset: Folder made by `rvc-jax prepare`, also at gs:// or s3://.
    """
    from rvc_jax.data.dataset import iterate, read_info

    info = read_info(dataset)
    record = next(iterate(dataset, "train"))
    shapes = {name: _shape(value) for name, value in record.items()}
    speakers = zip(info.speakers, info.speaker_minutes, strict=True)
    rows = [
        ("dataset", dataset),
        ("preset", f"{info.preset} at {info.sample_rate} Hz"),
        (
            "features",
            f"pitch {info.f0_method}, content {info.content_encoder} ({info.content_channels} channels)",
        ),
        ("files", f"{info.files} read, {len(info.skipped)} skipped"),
        (
            "speech",
            f"{info.speech_minutes:.1f} of {info.source_minutes:.1f} min, median pitch {info.median_f0:.0f} Hz",
        ),
        *(
            (f"speaker {number}", f"{name}: {minutes:.1f} min")
            for number, (name, minutes) in enumerate(speakers)
        ),
        ("train", f"{info.train_slices} slices"),
        ("holdout", f"{info.holdout_slices} slices, {info.holdout_seconds:.0f} s"),
        *((f"record {name}", text) for name, text in shapes.items()),
        *((f"setting {name}", str(value)) for name, value in info.config.items()),
        *(("dropped", format_drop(drop)) for drop in info.dropped),
        *(("note", note) for note in info.notes),
    ]
    print_result({"path": dataset, "record": shapes, **info.to_dict()}, rows, as_json)
    return 0


def _shape(value: Any) -> str:
    if getattr(value, "ndim", 0):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} {value}"
