"""Conversions whose figures are known: the same recording, a shifted one, a noisy one, silence,
half of one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.audio.writing import save
from rvc_jax.cli.main import main
from rvc_jax.cli.options import read_field_help
from rvc_jax.config import EvaluateConfig
from rvc_jax.errors import UserError
from rvc_jax.metrics.asr import Transcript
from rvc_jax.metrics.conversion import ConversionReport, measure_conversions
from rvc_jax.metrics.conversion_table import (
    SHOWN,
    ConversionMetrics,
    format_rows,
    mean_metrics,
    summarize,
)
from rvc_jax.metrics.dnsmos import DnsmosScores
from rvc_jax.metrics.pitch import PitchTracks
from rvc_jax.metrics.speaker import SpeakerEncoder

find_speaker = SpeakerEncoder.find
DOCS = Path(__file__).parents[2] / "docs" / "quality.md"


class Words:
    """A recognizer that finds one word more in louder audio, and supports English alone."""

    name = "a stand-in"
    is_multilingual = False

    def supports(self, language: str) -> bool:
        return language == "en"

    def __call__(self, audio16k: np.ndarray, language: str | None = None) -> Transcript:
        loud = np.abs(audio16k).max() > 0.5
        return Transcript("One, two, three." if loud else "One two THREE four", "en")


class Voices:
    """A model that distinguishes speakers by the sign of their samples' mean."""

    def __call__(self, audio: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        embeddings = np.zeros((len(audio), 256))
        embeddings[:, 0] = np.sign(audio.mean(axis=1))
        embeddings[:, 1] = 1
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Only the models that a test puts in are found, not those installed."""
    found: dict[str, object] = {}
    for name in ("speaker.SpeakerEncoder", "dnsmos.Dnsmos", "asr.SpeechRecognizer"):
        monkeypatch.setattr(f"rvc_jax.metrics.{name}.find", lambda name=name: found.get(name))
    return found


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    """1.5 s of speech at 16 kHz."""
    return load(other_clip, 16000)[20000:44000]


@pytest.fixture(scope="module")
def speech(clip: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    save(path, clip, 16000)
    return path


@pytest.fixture(scope="module")
def itself(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> ConversionReport:
    """A recording beside itself at half the level and another rate."""
    other = tmp_path_factory.mktemp("other") / "louder.flac"
    save(other, 0.5 * resample(load(speech, 16000), 16000, 24000), 24000)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("speaker.SpeakerEncoder", "dnsmos.Dnsmos", "asr.SpeechRecognizer"):
            patch.setattr(f"rvc_jax.metrics.{name}.find", lambda: None)
        return measure_conversions(other, speech, reference=speech)


def test_a_recording_agrees_with_itself(itself: ConversionReport) -> None:
    (measured,) = itself.conversions
    figures = measured.figures
    assert figures == itself.mean
    assert figures.f0_correlation > 0.99 and figures.f0_rmse_cents < 20
    assert figures.gross_pitch_errors == 0 and figures.voicing_error < 0.03
    assert (
        figures.transposition_semitones == pytest.approx(0, abs=0.05) and figures.delay_ms == 0
    )
    assert figures.mcd_db < 0.5
    assert figures.seconds == pytest.approx(1.5)
    assert figures.source_loudness_lufs - figures.loudness_lufs == pytest.approx(6.02, abs=0.1)
    assert figures.clipped == 0
    assert figures.silent == pytest.approx(figures.source_silent, abs=0.05)


def test_every_model_that_is_not_here_gets_one_sentence(itself: ConversionReport) -> None:
    figures = itself.mean
    assert figures.similarity is figures.dnsmos_overall is figures.word_error_rate is None
    assert itself.methods == {"pitch": "pYIN"}
    missing = [note for note in itself.notes if "not measured" in note]
    assert [note.split(" ", 1)[0] for note in missing] == ["speaker", "DNSMOS", "word"]
    assert all("rvc-jax download" in note for note in missing)


def test_the_same_words_have_no_error_and_another_one_has(
    speech: Path, tmp_path: Path, models: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rvc_jax.metrics.conversion.track_pitch",
        lambda *_: PitchTracks(np.full(50, 100.0), np.full(50, 100.0)),
    )
    models["asr.SpeechRecognizer"] = Words()
    loud = tmp_path / "loud.wav"
    faint = tmp_path / "faint.wav"
    wave = load(speech, 16000)[:8000]
    save(loud, 0.9 * wave / np.abs(wave).max(), 16000)
    save(faint, 0.2 * wave / np.abs(wave).max(), 16000)
    same = measure_conversions(loud, loud)
    more = measure_conversions(faint, loud)
    assert same.conversions[0].notes == (
        "there is no f0 correlation: one of the two pitches is constant",
    )
    assert same.mean.word_error_rate == same.mean.character_error_rate == 0
    assert more.mean.word_error_rate == 1 / 3
    assert more.conversions[0].transcripts == {
        "source": "One, two, three.",
        "converted": "One two THREE four",
    }
    assert (
        "the words are taken for English: a stand-in supports no other language" in same.notes
    )
    french = measure_conversions(faint, loud, config=EvaluateConfig(language="fr"))
    assert french.mean.word_error_rate is None
    assert (
        french.conversions[0].notes[-1]
        == "word and character errors are not measured: a stand-in does not support 'fr'"
    )


def test_similarity_is_with_the_target_and_opinions_are_of_both(
    speech: Path, tmp_path: Path, models: dict
) -> None:
    models["speaker.SpeakerEncoder"] = Voices()
    models["dnsmos.Dnsmos"] = lambda audio: DnsmosScores(
        3.0, 4.0, float(np.abs(audio).max()), 2.0
    )
    wave = np.tile(load(speech, 16000), 3)
    for name, offset in (("target.wav", 0.02), ("like.wav", 0.02), ("unlike.wav", -0.02)):
        save(tmp_path / name, 0.5 * wave + offset, 16000)
    figures = measure_conversions(tmp_path / "like.wav", target=tmp_path / "target.wav").mean
    assert figures.similarity == pytest.approx(1) and figures.source_similarity is None
    assert figures.dnsmos_overall == pytest.approx(
        float(np.abs(0.5 * wave + 0.02).max()), abs=0.01
    )
    assert (figures.dnsmos_signal, figures.dnsmos_background, figures.dnsmos_p808) == (3, 4, 2)
    assert figures.target_bandwidth_hz == figures.bandwidth_hz > 3000
    assert measure_conversions(
        tmp_path / "unlike.wav", target=tmp_path / "target.wav"
    ).mean.similarity == pytest.approx(0)


@pytest.mark.skipif(
    find_speaker() is None, reason="the package resemblyzer (or its weights) is not here"
)
def test_a_voice_is_like_itself_by_the_real_model(
    other_clip: Path, sample_voice: Path, models: dict
) -> None:
    models["speaker.SpeakerEncoder"] = find_speaker()
    own = sample_voice / "vm-choose_password.flac"
    assert measure_conversions(own, target=own).mean.similarity == pytest.approx(1, abs=1e-5)
    assert measure_conversions(other_clip, target=own).mean.similarity < 0.65


def test_what_is_too_short_for_a_model_and_a_bad_target_are_told(
    speech: Path, tmp_path: Path, models: dict
) -> None:
    models["speaker.SpeakerEncoder"] = Voices()
    models["dnsmos.Dnsmos"] = lambda audio: DnsmosScores(3.0, 3.0, 3.0, 3.0)
    target = tmp_path / "target"
    short = tmp_path / "short.wav"
    target.mkdir()
    save(target / "long.wav", np.tile(load(speech, 16000), 3), 16000)
    save(target / "word.wav", np.ones(160), 16000)
    save(short, load(speech, 16000)[:9600], 16000)
    compared = measure_conversions(short, target=target)
    assert compared.mean.dnsmos_overall is compared.mean.similarity is None
    assert [note.partition(":")[0] for note in compared.conversions[0].notes] == [
        "DNSMOS is not measured",
        "speaker similarity is not measured",
    ]
    assert any("word.wav can't be measured: 10 ms of sound" in note for note in compared.notes)
    (target / "long.wav").unlink()
    with pytest.raises(UserError, match=r"word\.wav can't be measured"):
        measure_conversions(short, target=target)


def test_silence_has_a_level_and_one_sentence(
    speech: Path, tmp_path: Path, models: dict
) -> None:
    models["asr.SpeechRecognizer"] = Words()
    save(tmp_path / "silence.wav", np.zeros(16000), 16000)
    (measured,) = measure_conversions(tmp_path / "silence.wav", speech).conversions
    (note,) = measured.notes
    assert note.startswith("the conversion is silent: nothing but its level is measured; ")
    assert (
        measured.figures.silent == 1
        and measured.figures.f0_correlation is measured.figures.peak_dbfs is None
    )
    assert (
        measure_conversions(speech, tmp_path / "silence.wav")
        .conversions[0]
        .notes[0]
        .startswith("the source is silent")
    )


def test_a_whisper_has_no_pitch(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    save(tmp_path / "whisper.wav", noise, 16000)
    (measured,) = measure_conversions(
        tmp_path / "whisper.wav", tmp_path / "whisper.wav"
    ).conversions
    assert measured.figures.voicing_error == 0 and measured.figures.f0_rmse_cents is None
    assert "pitch is not compared: fewer than 10 frames" in measured.notes[0]


def test_other_lengths_are_compared_while_both_last(speech: Path, tmp_path: Path) -> None:
    save(tmp_path / "half.wav", load(speech, 16000)[:12000], 16000)
    (measured,) = measure_conversions(tmp_path / "half.wav", speech).conversions
    assert "differ in length by 0.8 s" in measured.notes[0]
    assert measured.figures.f0_correlation > 0.99 and measured.figures.seconds == 0.75


def test_a_stretch_has_no_distortion(speech: Path) -> None:
    (measured,) = measure_conversions(
        speech, reference=speech, config=EvaluateConfig(seconds=1.0)
    ).conversions
    assert measured.figures.mcd_db is None and "it takes whole recordings" in measured.notes[-1]
    assert measure_conversions(speech, reference=speech).mean.mcd_db == 0


def test_of_a_folder_there_are_means_and_what_cannot_be_read_is_told(
    speech: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name, gain in (("a.wav", 1.0), ("b.wav", 0.5)):
        save(folder / name, gain * load(speech, 16000), 16000)
    (folder / "c.wav").write_text("this is no sound")
    compared = measure_conversions(folder, target=speech)
    assert [item.name for item in compared.conversions] == ["a", "b"]
    loudness = [item.figures.loudness_lufs for item in compared.conversions]
    assert compared.mean.loudness_lufs == pytest.approx(np.mean(loudness))
    assert any("c.wav can't be measured: not audio" in note for note in compared.notes)
    with pytest.raises(UserError, match="no sound|not audio"):
        measure_conversions(folder / "c.wav", target=speech)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to evaluate"),
        ("--source {speech}", "without --converted"),
        ("--converted {speech}", "nothing to compare with"),
        ("{tmp}/run --converted {speech}", "not both"),
        ("--converted {speech} --source {tmp}/gone.wav", "does not exist"),
        ("--converted {speech} --target {tmp}", "holds no recordings"),
        ("--converted {speech} --target {speech} --seconds 0", "--seconds between 1 and 3600"),
        ("--converted {speech} --target {speech} --start 9", "it cannot be cut from 9 s"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: str,
    message: str,
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", *arguments.format(speech=speech, tmp=tmp_path).split()]) == 2
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("measuring")]
    assert output.out == "" and len(lines) == 1 and message in lines[0]


def test_the_command_prints_a_table_or_json(
    speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["evaluate", "--converted", str(speech), "--target", str(speech), "--json"]) == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"mean", "conversions", "notes", "methods"}
    assert set(printed["mean"]) == {
        field.name for field in dataclasses.fields(ConversionMetrics)
    }
    assert main(["evaluate", "--converted", str(speech), "--target", str(speech)]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["measured"].strip() == "1.5 s" and "f0 correlation" not in rows


def test_every_figure_is_explained_and_shown() -> None:
    names = {field.name for field in dataclasses.fields(ConversionMetrics)}
    assert set(read_field_help(ConversionMetrics)) == names
    assert set(read_field_help(EvaluateConfig)) == {
        field.name for field in dataclasses.fields(EvaluateConfig)
    }
    page = DOCS.read_text()
    assert all(f"`{name}`" in page for name in names)
    assert names == SHOWN


def test_figures_as_text_and_their_mean() -> None:
    first = ConversionMetrics(f0_correlation=0.5, similarity=0.9, source_similarity=0.6)
    second = ConversionMetrics(f0_correlation=1.0)
    assert format_rows(first) == [
        ("f0 correlation", "0.500"),
        ("speaker similarity", "0.900 (source: 0.600)"),
    ]
    assert mean_metrics([first, second]) == ConversionMetrics(
        f0_correlation=0.75, similarity=0.9, source_similarity=0.6
    )
    assert summarize(second) == "f0 correlation 1.000" and "nothing" in summarize(
        ConversionMetrics(seconds=1.0)
    )
