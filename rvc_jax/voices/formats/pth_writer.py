"""Writes voices and training checkpoints as PyTorch files for RVC, Applio and w-okada's client.

The files hold only plain values and tensors, so that `torch.load(weights_only=True)` reads them.
The keys are those that the three tools write or look for. Weight norms have their old names, which
all of them know.
"""

from __future__ import annotations

import datetime
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import CONTENT_ENCODERS, TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import torch_file

HALF_ROUNDING = 2.0**-11
"""Largest relative error of a number in float16."""

HALF_STEP = 2.0**-25
"""Largest error of a number that is too small for float16's full precision."""

_VOCODER = "HiFi-GAN"
_OTHER_ENCODER = "custom"
"""Applio's name for every encoder that it does not bring; a path would reveal this machine's."""

_MAX_HALF = float(np.finfo(np.float16).max)
_GRADIENT_SCALER = {
    "scale": 65536.0,
    "growth_factor": 2.0,
    "backoff_factor": 0.5,
    "growth_interval": 2000,
    "_growth_tracker": 0,
}
"""PyTorch's initial state. Without one, Applio's float16 training starts again at epoch 1."""


class ReadBackError(Exception):
    """A file was not read back as it was written; the text says where they differ."""


def build_voice_content(
    model: VoiceModel, now: datetime.datetime | None = None
) -> OrderedDict[str, Any]:
    """Build the content of a voice's .pth, for `torch_file.write`.

    Args:
      model: Its facts may have name, epoch, step, author and dataset_length ("HH:MM:SS").
      now: The time of creation that the file states.

    Raises:
      UserError: A weight is not finite, or too large for float16.
    """
    facts = model.facts
    name = str(facts.get("name") or "voice")
    epoch = _to_count(facts.get("epoch"))
    step = _to_count(facts.get("step"))
    rate = f"{model.audio.sample_rate // 1000}k"
    sizes = to_config_list(model)
    identity = f"{name}-{epoch}-{step}-{rate}-{model.version}-{sizes}"
    weights = model.without_posterior().weights
    is_known = model.content_encoder in CONTENT_ENCODERS
    return OrderedDict(
        weight=OrderedDict((name, _to_half(name, array)) for name, array in weights.items()),
        config=sizes,
        info=f"{epoch}epoch",
        sr=rate,
        f0=int(model.generator.has_pitch),
        version=str(model.version),
        epoch=epoch,
        step=step,
        creation_date=(now or datetime.datetime.now()).isoformat(),
        model_hash=hashlib.sha256(identity.encode()).hexdigest(),
        dataset_length=_to_text(facts.get("dataset_length")),
        model_name=name,
        author=_to_text(facts.get("author")),
        embedder_model=model.content_encoder if is_known else _OTHER_ENCODER,
        speakers_id=len(model.speakers),
        vocoder=_VOCODER,
    )


def build_checkpoint_content(
    weights: Mapping[str, np.ndarray], epoch: int, recipe: TrainConfig, rate: float = 1.0
) -> dict[str, Any]:
    """Build the content of a G_*.pth or D_*.pth, for `torch_file.write`.

    The optimizer's state has its settings but no moments. PyTorch finds a parameter's moments by
    its place among all parameters, and the tools build their networks in different orders: moments
    written for one tool would be another parameter's in the next, with an error about shapes at
    best. AdamW gathers them again: with the classic recipe their memory is 5 and 100 steps, less
    than two epochs of a common dataset.

    Args:
      weights: State dict of a whole generator or discriminator.
      epoch: The last finished epoch.
      rate: Factor on the recipe's learning rate.
    """
    first = float(recipe.learning_rate)
    now = first * rate * recipe.learning_rate_decay ** (epoch - 1)
    return {
        "model": OrderedDict(
            (name, np.asarray(array, np.float32)) for name, array in weights.items()
        ),
        "iteration": int(epoch),
        "optimizer": _build_optimizer(len(weights), first, now, recipe),
        "learning_rate": first,
        "scaler": dict(_GRADIENT_SCALER),
    }


def _build_optimizer(
    parameters: int, first: float, now: float, recipe: TrainConfig
) -> dict[str, Any]:
    """The state dict of torch.optim.AdamW.

    Args:
      parameters: How many it has.
      first: Learning rate of the first epoch, from which the schedule starts.
      now: Learning rate of the current epoch.
    """
    group = {
        "lr": now,
        "betas": (recipe.beta1, recipe.beta2),
        "eps": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
        "amsgrad": False,
        "foreach": None,
        "maximize": False,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
        "initial_lr": first,
        "params": list(range(parameters)),
    }
    return {"state": {}, "param_groups": [group]}


def write_checked(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write a PyTorch file, read it back, and compare all values, types and the order of keys.

    Returns:
      What was read.

    Raises:
      ReadBackError: The disk returns something else.
      UserError: The file can't be written or read.
    """
    torch_file.write(path, content)
    found = torch_file.read(path)
    _compare("the file", found, content)
    return found


def measure_rounding(
    found: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> float:
    """Measure the largest difference between a file's float16 weights and those it was made from.

    Returns:
      The difference as a share of float16's rounding, 0 to 1.

    Raises:
      ReadBackError: It is larger than 1, or a weight is missing.
    """
    largest = 0.0
    for name, array in weights.items():
        if name not in found or found[name].shape != array.shape:
            raise ReadBackError(f"{name} is missing, or of another shape")
        allowed = HALF_ROUNDING * np.abs(array, dtype=np.float64) + HALF_STEP
        difference = np.abs(found[name].astype(np.float64) - array)
        share = float((difference / allowed).max(initial=0.0))
        if not share <= 1.0:  # NaN as well
            raise ReadBackError(f"{name} is not the voice's, beyond the rounding of float16")
        largest = max(largest, share)
    return largest


def _to_half(name: str, array: np.ndarray) -> np.ndarray:
    largest = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(largest):
        raise UserError(
            f"the voice is broken: {name} has numbers that are not finite; export an earlier "
            "checkpoint"
        )
    if largest > _MAX_HALF:
        raise UserError(
            f"{name} has a weight of {largest:.3g}; a .pth holds float16, which ends at "
            f"{_MAX_HALF:.0f}: export safetensors, or an earlier checkpoint"
        )
    return array.astype(np.float16)


def _to_count(value: Any) -> int:
    """0 if nothing is known, or the file has something else there."""
    return int(value) if isinstance(value, (int, np.integer)) else 0


def _to_text(value: Any) -> str | None:
    """None if nothing is known, as in Applio's files."""
    return str(value) if value else None


def _compare(where: str, found: Any, wanted: Any) -> None:
    if isinstance(wanted, np.ndarray):
        if not isinstance(found, np.ndarray) or not _is_same(found, wanted):
            raise ReadBackError(f"{where} is not the array that was written")
        return
    if type(found) is not type(wanted):
        raise ReadBackError(
            f"{where} is a {type(found).__name__}, not a {type(wanted).__name__}"
        )
    if isinstance(wanted, Mapping):
        if list(found) != list(wanted):
            raise ReadBackError(f"{where} has other keys")
        for key in wanted:
            _compare(f"{key} of {where}", found[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            raise ReadBackError(f"{where} has {len(found)} entries, not {len(wanted)}")
        for number, pair in enumerate(zip(found, wanted, strict=True)):
            _compare(f"entry {number} of {where}", *pair)
    elif found != wanted:
        raise ReadBackError(f"{where} is {found!r}, not {wanted!r}")


def _is_same(found: np.ndarray, wanted: np.ndarray) -> bool:
    has_same_form = found.dtype == wanted.dtype and found.shape == wanted.shape
    return has_same_form and found.tobytes() == wanted.tobytes()
