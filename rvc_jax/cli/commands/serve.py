"""`rvc-jax serve`."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display
from rvc_jax.cli.options import Which
from rvc_jax.config import ServeConfig
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.infer.server.server import VoiceServer


def serve(
    voice: Annotated[Positional[str], tyro.conf.arg(metavar="VOICE")],
    service: ServeConfig,
    which: Which = "best",
) -> int:
    """Keep a voice ready behind a local HTTP address: post a recording, get the same words in the
    voice.

    Ctrl-C ends it, after what is being converted; once more ends it at once. Needs the extra
    `serve`.

    Args:
        voice: Folder of a run, also at gs:// or s3://, or of an imported voice; or a voice's file:
            .pth of any RVC tool, .zip, .safetensors.
        which: The best voice of a run by the hold-out, or the latest.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise UserError(
            'the web server is not installed: pip install "rvc_jax[serve]"'
        ) from error
    from rvc_jax.infer.server.server import VoiceServer, bind

    start_jax()
    with Display("lines") as display, bind(service) as listener:
        from rvc_jax.infer.voice import Voice

        loaded = Voice.load(voice, which)
        display.message("compiling what conversion needs; this may take a minute")
        loaded.warm_up()
        about = {
            "voice": voice.rstrip("/").rpartition("/")[2],
            "sample_rate": loaded.sample_rate,
            "speakers": loaded.speakers,
        }
        _run(VoiceServer(loaded.convert_recording, about, service, display), listener)
    return 0


def _run(server: VoiceServer, listener: socket.socket) -> None:
    """Serves until a signal ends it."""
    before = {
        name: signal.signal(name, lambda *_: server.stop())
        for name in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        asyncio.run(
            server.run(listener, lambda address: print(f"ready on {address}", flush=True))
        )
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
