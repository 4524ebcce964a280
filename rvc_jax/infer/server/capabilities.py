"""What a server can do with what it has: nothing is loaded from elsewhere for a request."""

from __future__ import annotations

import dataclasses

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.features.f0 import PITCH_METHODS
from rvc_jax.infer.options import check_options, parse_speaker_mix


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """The voice and the methods that a server has."""

    speakers: int | None = None
    """Number of speakers of the voice; None: not checked."""
    has_index: bool = True
    """Whether the voice has a retrieval index."""
    f0_methods: tuple[str, ...] = PITCH_METHODS
    """Pitch methods whose weights or packages are there."""

    def check(self, config: ConvertConfig) -> None:
        """Check that the options of a request can be followed.

        Raises:
          UserError: an option is out of its range, or needs what the server does not have.
        """
        check_options(config, self.speakers)
        if self.speakers is not None:
            parse_speaker_mix(config, self.speakers)
        if config.f0_method is not None and config.f0_method not in self.f0_methods:
            raise UserError(
                f"f0_method {config.f0_method} is not on this server; it has "
                f"{', '.join(self.f0_methods)}"
            )
        if config.index_rate and not self.has_index:
            raise UserError(
                f"index_rate {config.index_rate:g} is impossible: the voice on this server has no "
                "index; leave it out, or give 0"
            )


EVERYTHING = Capabilities()
"""No limit beside those of the options."""
