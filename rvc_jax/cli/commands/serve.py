"""`rvc-jax serve`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display
from rvc_jax.cli.options import Encoder, Member, OptionalPlace, Service, Which
from rvc_jax.cli.terminal import print_line
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax
from rvc_jax.storage.installation import install_command
from rvc_jax.storage.signals import HANGUP, leave_dead_terminal

if TYPE_CHECKING:
    from rvc_jax.infer.server.server import VoiceServer


def serve(
    voice: Annotated[Positional[str], tyro.conf.arg(metavar="VOICE")],
    service: Service,
    which: Which = "best",
    index: OptionalPlace = None,
    content_encoder: Encoder = None,
    member: Member = None,
) -> int:
    """Serve a voice over HTTP: clients post a recording and get it back in the voice.

    Ctrl-C stops the server after the current conversion, a second Ctrl-C at once. Needs the extra
    `serve`.

    Args:
        voice: Folder of a run or its gs:// or s3:// URL, folder of an imported voice, or voice file
            (.pth of any RVC program, .zip, .safetensors).
        which: Which voice of a run: the best by the hold-out, or the latest.
        index: Retrieval index (.index or .npy) instead of the voice's own; "none" for no retrieval.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the web server is not installed: {install_command('serve')}"
        ) from error
    from rvc_jax.features.f0 import find_present_methods
    from rvc_jax.infer.server.capabilities import Capabilities
    from rvc_jax.infer.server.server import VoiceServer, bind

    start_jax()
    # The address is taken first: an occupied one is reported before the voice is compiled.
    with Display("lines") as display, bind(service) as listener:
        from rvc_jax.infer.voice import Voice

        loaded = Voice.load(voice, which, index, content_encoder, member)
        display.message("compiling what conversion needs; this may take a minute")
        loaded.warm_up()
        for note in loaded.model.notes:
            display.message(note)
        methods = find_present_methods()
        capabilities = Capabilities(len(loaded.speakers), loaded.index_rows > 0, methods)
        about = {
            "voice": voice.rstrip("/").rpartition("/")[2],
            "sample_rate": loaded.sample_rate,
            "speakers": loaded.speakers,
            "index_rows": loaded.index_rows,
            "f0_methods": methods,
        }
        # What a request asks for must be here already: nothing is downloaded for a client.
        os.environ["RVC_JAX_OFFLINE"] = "1"
        server = VoiceServer(loaded.convert_recording, about, service, display, capabilities)
        _run(server, listener)
    return 0


def _run(server: VoiceServer, listener: socket.socket) -> None:
    """Serve until a signal stops the server."""

    def announce(address: str) -> None:
        print_line(f"ready on {address}")

    def stop(number: int, frame: object) -> None:
        if number == HANGUP:
            leave_dead_terminal()
        server.stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.Signals(HANGUP))
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        asyncio.run(server.run(listener, announce))
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
