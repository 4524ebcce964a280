"""What `tfds build` in this folder makes; see README.md."""

from typing import ClassVar

from rvc_jax.data.tfds_builder import VoiceBuilder, VoiceConfig


class Builder(VoiceBuilder):
    """The preset `nano`; `--config` names another one."""

    # `tfds build` builds all that are listed.
    BUILDER_CONFIGS: ClassVar = [VoiceConfig(name="nano")]
