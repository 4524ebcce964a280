"""What `tfds build` in this folder makes; see README.md."""

from rvc_jax.data.tfds_builder import VoiceBuilder, VoiceConfig


class Builder(VoiceBuilder):
    """The preset `nano`; `--config` names another one."""

    BUILDER_CONFIGS = [VoiceConfig(name="nano")]  # `tfds build` builds all that are listed
