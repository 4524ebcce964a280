"""Voices and training checkpoints as RVC, Applio and w-okada's client read them: PyTorch files,
made without PyTorch.

Only plain values and tensors are in them, so that `torch.load(weights_only=True)` reads them. The
keys are those that the three tools write or look for; names of weight norms are the old ones, which
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
from rvc_jax.voices.model import VoiceModel, to_config_list
from rvc_jax.weights import torch_file

HALF_ROUNDING = 2.0**-11
"""Largest relative error of a number in float16."""

HALF_STEP = 2.0**-25
"""Largest error of a number that is too small for float16's full precision."""

_VOCODER = "HiFi-GAN"
_OTHER_ENCODER = "custom"
"""Applio's name for every encoder that it does not bring; a path would tell of this machine."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_GRADIENT_SCALER = {
    "scale": 65536.0,
    "growth_factor": 2.0,
    "backoff_factor": 0.5,
    "growth_interval": 2000,
    "_growth_tracker": 0,
}
"""As PyTorch's begins. Applio's float16 training asks for one, and begins anew at epoch 1 if it is
not told."""


class ReadBackError(Exception):
    """What was read back is not what was to be written; the text tells where they differ."""


def build_voice_content(
    model: VoiceModel, now: datetime.datetime | None = None
) -> OrderedDict[str, Any]:
    """What a voice's .pth holds, for `torch_file.write`.

    model: its `facts` may have name, epoch, step, author and dataset_length ("HH:MM:SS"). now: the
    moment that the file says it was made at.

    Raises:
      UserError: a weight is not finite, or too large for float16.
    """
    facts = model.facts
    name = str(facts.get("name") or "voice")
    epoch = _count(facts.get("epoch"))
    step = _count(facts.get("step"))
    rate = f"{model.audio.sample_rate // 1000}k"
    sizes = to_config_list(model)
    identity = f"{name}-{epoch}-{step}-{rate}-{model.version}-{sizes}"
    weights = model.without_posterior().weights
    return OrderedDict(
        weight=OrderedDict((name, _half(name, array)) for name, array in weights.items()),
        config=sizes,
        info=f"{epoch}epoch",
        sr=rate,
        f0=int(model.generator.has_pitch),
        version=str(model.version),
        epoch=epoch,
        step=step,
        creation_date=(now or datetime.datetime.now()).isoformat(),
        model_hash=hashlib.sha256(identity.encode()).hexdigest(),
        dataset_length=_text(facts.get("dataset_length")),
        model_name=name,
        author=_text(facts.get("author")),
        embedder_model=model.content_encoder
        if model.content_encoder in CONTENT_ENCODERS
        else _OTHER_ENCODER,
        speakers_id=len(model.speakers),
        vocoder=_VOCODER,
    )


def build_checkpoint_content(
    weights: Mapping[str, np.ndarray], epoch: int, recipe: TrainConfig, rate: float = 1.0
) -> dict[str, Any]:
    """What a G_*.pth or D_*.pth holds, for `torch_file.write`.

    weights: state dict of a whole generator or discriminator. epoch: the last one that is done.
    rate: factor on the recipe's learning rate.

    The optimiser's state has its settings and no moments. PyTorch finds a parameter's moments by
    its place among all parameters, and the tools build their networks in different orders: moments
    written for one would be another parameter's in the next, with an error about shapes at best.
    AdamW gathers them again: with the classic recipe their memory is 5 and 100 steps, less than two
    epochs of a common dataset.
    """
    first = float(recipe.learning_rate)
    return {
        "model": OrderedDict(
            (name, np.asarray(array, np.float32)) for name, array in weights.items()
        ),
        "iteration": int(epoch),
        "optimizer": _optimizer(
            len(weights),
            first,
            first * rate * recipe.learning_rate_decay ** (epoch - 1),
            recipe,
        ),
        "learning_rate": first,
        "scaler": dict(_GRADIENT_SCALER),
    }


def _optimizer(
    parameters: int, first: float, now: float, recipe: TrainConfig
) -> dict[str, Any]:
    """State dict of torch.optim.AdamW over so many parameters. first: the rate of the first epoch,
    for its schedule."""
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
    """Writes a PyTorch file, reads it back and compares every value, its type and the order of the
    keys.

    Returns: what was read.

    Raises:
      ReadBackError: the disk gives back something else.
      UserError: the file cannot be written or read.
    """
    torch_file.write(path, content)
    found = torch_file.read(path)
    _compare("the file", found, content)
    return found


def rounding(found: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> float:
    """The largest share of float16's rounding that any weight of a file has taken, of those it was
    made from.

    Raises ReadBackError above 1, or if a weight is not there.
    """
    largest = 0.0
    for name, array in weights.items():
        if name not in found or found[name].shape != array.shape:
            raise ReadBackError(f"{name} is missing, or of another shape")
        allowed = HALF_ROUNDING * np.abs(array, dtype=np.float64) + HALF_STEP
        share = float(
            (np.abs(found[name].astype(np.float64) - array) / allowed).max(initial=0.0)
        )
        if not share <= 1.0:  # NaN as well
            raise ReadBackError(f"{name} is not the voice's, beyond the rounding of float16")
        largest = max(largest, share)
    return largest


def _half(name: str, array: np.ndarray) -> np.ndarray:
    largest = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(largest):
        raise UserError(
            f"the voice is broken: {name} has numbers that are not finite; export an earlier checkpoint"
        )
    if largest > _LARGEST_HALF:
        raise UserError(
            f"{name} has a weight of {largest:.3g}; a .pth holds float16, which ends at {_LARGEST_HALF:.0f}: export "
            "safetensors, or an earlier checkpoint"
        )
    return array.astype(np.float16)


def _count(value: Any) -> int:
    """0 where nothing is known, or something else is told."""
    return int(value) if isinstance(value, (int, np.integer)) else 0


def _text(value: Any) -> str | None:
    """None where nothing is known, as Applio has it."""
    return str(value) if value else None


def _compare(where: str, found: Any, wanted: Any) -> None:
    if isinstance(wanted, np.ndarray):
        same = (
            isinstance(found, np.ndarray)
            and found.dtype == wanted.dtype
            and found.shape == wanted.shape
        )
        if not same or found.tobytes() != wanted.tobytes():
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
