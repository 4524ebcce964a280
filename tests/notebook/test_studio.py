"""The start of the notebook, and what holds for all of its steps."""

from __future__ import annotations

import pytest
from notebook_room import V5E, Room

from rvc_jax.notebook import colab, runtime, studio
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.runtime import Accelerator, Devices
from rvc_jax.notebook.studio import Studio
from rvc_jax.notebook.translations import Translations


def test_start_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_complete", lambda kind: False)
    with pytest.raises(NotebookError, match="INSTALL_FROM est vide"):
        studio.start("Français")


def test_start_says_what_a_runtime_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(studio, "show_text", lambda text, kind="plain": shown.append(text))
    monkeypatch.setattr(runtime, "accelerator", lambda: Accelerator("tpu", "v5e"))
    monkeypatch.setattr(runtime, "is_complete", lambda kind: True)
    monkeypatch.setattr(
        runtime, "PROBE", "import json; print(json.dumps(['TPU v5 lite', 1, '0.12.0']))"
    )
    made = studio.start("English")
    assert "4.11 compute units per hour" in "\n".join(shown) and "24 h" in "\n".join(shown)
    assert "JAX 0.12.0 on 1 x TPU v5 lite" in shown[-1] and "no restart is needed" in shown[-1]
    assert made.program.environment["JAX_PLATFORMS"] == "tpu,cpu"


def test_start_says_that_jax_does_not_reach_the_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "is_complete", lambda kind: True)
    monkeypatch.setattr(runtime, "PROBE", "raise RuntimeError('Unable to initialize backend')")
    with pytest.raises(
        NotebookError, match="Unable to initialize backend.*Restart the session"
    ):
        studio.start("English")


def test_a_mistake_is_one_line_in_a_notebook(room: Room) -> None:
    with pytest.raises(NotebookError) as caught:
        Studio(Translations("fr"), room.commands, V5E, Devices("", 1, "")).prepare("40k")
    (line,) = caught.value._render_traceback_()
    assert "Lancez d'abord l'étape 2" in line and "Traceback" not in line


def test_steps_before_their_time(room: Room) -> None:
    made = room.studio()
    early = {
        "speech cell first": [lambda: made.prepare("40k")],
        "step 3": [made.audit, lambda: made.estimate(200), lambda: made.train(200)],
        "step 5": [lambda: made.convert("example"), made.export],
        "step 6": [lambda: made.release(True)],
    }
    for words, steps in early.items():
        for step in steps:
            with pytest.raises(NotebookError, match=words):
                step()
    assert room.commands.asked == [] and "release" not in room.colab.calls


def test_outside_of_colab(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab, "is_colab", lambda: False)
    made = room.studio()
    assert room.colab.calls == [] and made.voice.path == room.content / "rvc_voices" / "ada"
    with pytest.raises(NotebookError, match="Uploads only work on Colab"):
        made.add_speech("upload (envoyer)")
    made.release(True)
    assert "not Colab" in room.shown[-1]
