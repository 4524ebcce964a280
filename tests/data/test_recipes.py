"""Recipes: what is read, what is refused in one line, and their cuts."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer

from rvc_jax.config import FetchConfig
from rvc_jax.data.cut import Cut
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.recipes import collect_recipe_cuts, read_recipe
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

ROOT = Path(__file__).parents[2]
LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two recordings of the same name."""
    made = tmp_path / "recipe"
    (made / "second").mkdir(parents=True)
    for path in (made / "speech.flac", made / "second" / "speech.flac"):
        shutil.copy(find_bundled_sample("voice") / "ivr-concentrate.flac", path)
    return made


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_bundled_recipe_gives_its_cuts_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", None)
    sample = find_bundled_sample("voice").parent
    recipe = read_recipe(sample / "recipe.toml")
    assert (recipe.name, recipe.speaker) == ("the bundled sample", "voice")
    hold = "voice/ivr-on_hold_indefinitely.flac"
    novel = "other/sense_and_sensibility_01_austen_64kb-0870.flac"
    assert collect_recipe_cuts(recipe) == [
        Cut(
            (sample / "voice/vm-tutorial_record_name.flac").resolve(),
            "voice/vm-tutorial_record_name.flac",
            "voice",
        ),
        Cut((sample / hold).resolve(), f"{hold}[0.0-3.0]", "voice", 0.0, 3.0, -1.5),
        Cut((sample / hold).resolve(), f"{hold}[3.25-6.5]", "voice", 3.25, 6.5, 1.0),
        Cut((sample / novel).resolve(), f"{novel}[0.5-end]", "other", 0.5, None, 0.0),
    ]


def test_the_example_is_twenty_minutes_of_a_speech_in_cuts() -> None:
    recipe = read_recipe(ROOT / "data/recipes/public_speech.toml")
    (source,) = recipe.sources
    assert source.link.startswith("https://") and recipe.license
    assert len(source.cuts) == 5 and source.cuts[-1].end is None
    assert 15 * 60 < source.cuts[-1].start < 20 * 60


def test_every_way_to_write_a_time_and_every_key(folder: Path) -> None:
    recipe = read_recipe(
        written(
            folder,
            """
            [[source]]
            file = "speech.flac"
            speaker = "guest"
            gain_db = 3
            cut = [
                {start = 00:00:01.25, end = "0:01.5"},
                {start = 2, end = 2.5, gain_db = -1.5, speaker = "host"},
            ]
            [[source]]
            file = "second/speech.flac"
            """,
        )
    )
    assert (recipe.name, recipe.speaker, recipe.license) == ("recipe", "recipe", None)
    cuts = [
        (cut.name, cut.speaker, cut.start, cut.stop, cut.gain_db)
        for cut in collect_recipe_cuts(recipe)
    ]
    assert cuts == [
        ("speech.flac[1.25-1.5]", "guest", 1.25, 1.5, 3.0),
        ("speech.flac[2.0-2.5]", "host", 2.0, 2.5, -1.5),
        ("second/speech.flac", "recipe", 0.0, None, 0.0),
    ]


def test_files_by_their_whole_path_get_different_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    recipe = written(
        tmp_path / "elsewhere",
        f"[[source]]\nfile = '{folder}/speech.flac'\n[[source]]\nfile = "
        f"'{folder}/second/speech.flac'",
    )
    assert [cut.name for cut in collect_recipe_cuts(read_recipe(recipe))] == [
        "speech.flac",
        "speech.flac (2)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no [[source]]"),
        ("[[source]", "not valid TOML"),
        ("name = 'a", "not valid TOML"),
        ("x = " + "[" * 2000, "recipe.toml is no"),
        ("x = 9" + "9" * 5000, "is no"),
        ("name = 3", "recipe.toml, name: must be a text in quotes"),
        ("name = ''", "recipe.toml, name: must be a text in quotes"),
        ('name = "a\\u001b[31mb"', "recipe.toml, name: must be a text in quotes"),
        (
            "speakers = 'a'",
            "recipe.toml: there is no key 'speakers'; a recipe has license, name, source, speaker",
        ),
        ("source = 'speech.flac'", "source: must be written with two brackets"),
        ("[source]\nfile = 'speech.flac'", "source: must be written with two brackets"),
        ("source = ['speech.flac']", "source 1: must be a table"),
        ("[[source]]", "source 1: give a link or a file, one of them"),
        (
            "[[source]]\nfile = 'speech.flac'\nlink = 'https://x.org'",
            "source 1: give a link or a file, one of them",
        ),
        ("[[source]]\nurl = 'https://x.org'", "source 1: there is no key 'url'"),
        (
            "[[source]]\nlink = 'file:///etc/passwd'",
            "source 1, link: only http:// and https:// links",
        ),
        (
            "[[source]]\nlink = 'ftp://x.org/a'",
            "source 1, link: only http:// and https:// links",
        ),
        ("[[source]]\nfile = 'gone.flac'", "gone.flac is not there"),
        ("[[source]]\nfile = 'second'", "second is not a file"),
        ("[[source]]\nfile = '../outside.flac'", "outside of the recipe's folder"),
        ("[[source]]\nfile = 'second/../../outside.flac'", "outside of the recipe's folder"),
        ("[[source]]\nfile = 'leads-out.flac'", "outside of the recipe's folder"),
        ('[[source]]\nfile = "a\\u0000b"', "source 1, file: must be a text in quotes"),
        (
            "[[source]]\nfile = 'speech.flac'\ngain_db = 'loud'",
            "source 1, gain_db: must be a number from -60 to 60",
        ),
        (
            "[[source]]\nfile = 'speech.flac'\ngain_db = nan",
            "source 1, gain_db: must be a number",
        ),
        (
            "[[source]]\nfile = 'speech.flac'\ngain_db = -inf",
            "source 1, gain_db: must be a number",
        ),
        (
            "[[source]]\nfile = 'speech.flac'\ngain_db = true",
            "source 1, gain_db: must be a number",
        ),
        (
            "[[source]]\nfile = 'speech.flac'\nchapters = 'Part'",
            "source 1, chapters: only for a link",
        ),
        (
            "[[source]]\nlink = 'https://x.org'\nchapters = '('",
            "source 1, chapters: not a regular expression",
        ),
        (
            "[[source]]\nlink = 'https://x.org'\nchapters = 'a'\ncut = [{end = 1}]",
            "chapters: only for a link",
        ),
    ],
)
def test_what_is_refused_in_a_recipe(
    folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    shutil.copy(folder / "speech.flac", tmp_path / "outside.flac")
    (folder / "leads-out.flac").symlink_to(tmp_path / "outside.flac")
    path = written(folder, text)
    with pytest.raises(UserError) as error:
        read_recipe(path)
    line = str(error.value)
    assert message in line and "\n" not in line and line.startswith(str(path))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ("{}", "source 1: cut 1: give a start, an end or both"),
        (
            "{from = 1}",
            "source 1: cut 1: there is no key 'from'; a cut has end, gain_db, speaker, start",
        ),
        ("3", "source 1: cut 1: must be a table"),
        ("{start = 5, end = 5}", "source 1: cut 1: the end (5 s) is not after the start (5 s)"),
        (
            "{start = '1:00', end = '0:59'}",
            "cut 1: the end (59 s) is not after the start (60 s)",
        ),
        ("{end = 0}", "cut 1: the end (0 s) is not after the start (0 s)"),
        ("{start = -1}", "source 1: cut 1, start: must be seconds, not below 0"),
        ("{start = nan}", "source 1: cut 1, start: must be seconds"),
        ("{end = inf}", "source 1: cut 1, end: must be seconds"),
        ("{start = true}", "source 1: cut 1, start: must be seconds"),
        ("{start = [1]}", "source 1: cut 1, start: must be seconds"),
        ("{start = 1979-05-27}", "source 1: cut 1, start: must be seconds"),
        ("{start = '1:70'}", "source 1: cut 1, start: '1:70' is not a time"),
        ("{start = 'soon'}", "source 1: cut 1, start: 'soon' is not a time"),
        ("{end = 1}, {start = 1, gain_db = 99}", "source 1: cut 2, gain_db"),
        (
            "{start = 1, end = 3}, {start = 2}",
            "source 1: cut 2 begins at 2 s, where source 1: cut 1 has not ended",
        ),
        (
            "{start = 2}, {start = 9, end = 10}",
            "source 1: cut 2 begins at 9 s, where source 1: cut 1 has not ended",
        ),
        (
            "{start = 5, end = 6}, {end = 5.5}",
            "source 1: cut 1 begins at 5 s, where source 1: cut 2 has not ended",
        ),
    ],
)
def test_what_is_refused_in_a_cut(folder: Path, cuts: str, message: str) -> None:
    path = written(folder, f"[[source]]\nfile = 'speech.flac'\ncut = [{cuts}]")
    with pytest.raises(UserError) as error:
        read_recipe(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_cuts_may_touch_but_a_recording_may_not_come_twice(folder: Path) -> None:
    path = written(
        folder,
        "[[source]]\nfile = 'speech.flac'\ncut = [{start = 1, end = 2}, {end = 1}, {start = 2}]",
    )
    assert len(collect_recipe_cuts(read_recipe(path))) == 3
    path = written(folder, "[[source]]\nfile = 'speech.flac'\n" * 2)
    with pytest.raises(
        UserError,
        match="source 2 begins at 0 s, where source 1 has not ended: cuts must not overlap",
    ):
        collect_recipe_cuts(read_recipe(path))
    twice = (
        "[[source]]\nfile = 'speech.flac'\ncut = [{end = 2}]\n"
        "[[source]]\nfile = 'second/../speech.flac'\n"
    )
    with pytest.raises(UserError, match="cuts must not overlap"):
        collect_recipe_cuts(read_recipe(written(folder, twice)))


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "gone.toml")
    with pytest.raises(UserError, match="is not a file, but a folder"):
        read_recipe(tmp_path)
    for content, message in (
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"#" * (2 << 20), "has more than 1 MB"),
    ):
        (tmp_path / "strange.toml").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_recipe(tmp_path / "strange.toml")


_VALUES = st.recursive(
    st.one_of(
        st.sampled_from(
            [
                "'speech.flac'",
                "'1:00'",
                "1979-05-27T07:32:00Z",
                "07:32:00",
                "nan",
                "-inf",
                "true",
                "{}",
                "[]",
            ]
        ),
        st.integers().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(
            st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="'"), max_size=10
        ).map("'{}'".format),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=4,
)
_KEYS = (
    "name",
    "speaker",
    "license",
    "licence",
    "source",
    "link",
    "file",
    "gain_db",
    "chapters",
    "cut",
    "start",
    "end",
    "x",
)
_FORMS = (
    "{key} = {value}",
    "[[source]]\n{key} = {value}",
    "[[source]]\nfile = 'speech.flac'\ncut = [{{{key} = {value}}}]",
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(_FORMS),
    st.sampled_from(_KEYS),
    _VALUES,
)
def test_any_value_anywhere_is_a_recipe_or_one_line(
    folder: Path, form: str, key: str, value: str
) -> None:
    path = written(folder, form.format(key=key, value=value))
    try:
        recipe = read_recipe(path)
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
    else:
        assert all(
            cut.start >= 0 and (cut.stop is None or cut.stop > cut.start)
            for cut in collect_recipe_cuts(recipe)
        )


# --- links ---


def test_links_are_fetched_once_and_cut(server: MediaServer, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        speaker = "host"
        [[source]]
        link = "{server.url}/speech/talk.m4a"
        cut = [{{end = 0.5}}, {{start = "0:01", gain_db = 2.0, speaker = "guest"}}]
        [[source]]
        link = "{server.url}/talk.webm"
        """,
    )
    first = collect_recipe_cuts(read_recipe(path), tmp_path / "fetched", LOCAL)
    (m4a,), (webm,) = ((tmp_path / "fetched").glob(pattern) for pattern in ("*.m4a", "*.webm"))
    assert first == [
        Cut(m4a, f"{m4a.name}[0.0-0.5]", "host", 0.0, 0.5, 0.0),
        Cut(m4a, f"{m4a.name}[1.0-end]", "guest", 1.0, None, 2.0),
        Cut(webm, webm.name, "host"),
    ]
    server.requests.clear()
    assert collect_recipe_cuts(read_recipe(path), tmp_path / "fetched", LOCAL) == first
    assert not server.requests  # so that a recipe can be prepared again without a network


def test_the_default_folder_is_shared(server: MediaServer, tmp_path: Path) -> None:
    path = written(tmp_path, f"[[source]]\nlink = '{server.url}/talk.m4a'")
    (cut,) = collect_recipe_cuts(read_recipe(path), config=LOCAL)
    assert cut.path.parent == tmp_path / "home" / "fetched"


def test_a_feed_is_taken_whole_but_not_cut(server: MediaServer, tmp_path: Path) -> None:
    entries = [(name, f"{server.url}/{name}/talk.m4a") for name in ("monday", "tuesday")]
    link = server.feed("/show.xml", *entries, ("gone", f"{server.url}/gone.mp3"))
    path = written(tmp_path, f"[[source]]\nlink = '{link}'\ngain_db = 1.5")
    cuts = collect_recipe_cuts(read_recipe(path), tmp_path / "fetched", LOCAL)
    assert [(cut.name[:6], cut.start, cut.stop, cut.gain_db) for cut in cuts] == [
        ("monday", 0.0, None, 1.5),
        ("tuesda", 0.0, None, 1.5),
    ]
    path = written(tmp_path, f"[[source]]\nlink = '{link}'\ncut = [{{start = 1}}]")
    with pytest.raises(
        UserError, match="source 1: this link leads to 2 recordings; cuts need a link to one"
    ):
        collect_recipe_cuts(read_recipe(path), tmp_path / "fetched", LOCAL)


def test_a_failing_link_is_reported_with_its_place(server: MediaServer, tmp_path: Path) -> None:
    path = written(tmp_path, f"[[source]]\nlink = '{server.url}/gone.mp3'")
    with pytest.raises(UserError, match=r"recipe\.toml: source 1: nothing was fetched: .*404"):
        collect_recipe_cuts(read_recipe(path), tmp_path / "fetched", LOCAL)
    path = written(tmp_path, "[[source]]\nlink = 'http://127.0.0.1:9/talk.mp3'")
    with pytest.raises(
        UserError,
        match=r"recipe\.toml: source 1: .*--allow-private-addresses.*: rvc-jax fetch 'http:",
    ):
        collect_recipe_cuts(read_recipe(path), tmp_path / "fetched")


def test_what_was_fetched_by_itself_before_is_taken(
    server: MediaServer, tmp_path: Path
) -> None:
    """For links that need cookies, or other options that only `rvc-jax fetch` has."""
    link = f"{server.url}/talk.m4a"
    fetch([link], tmp_path / "home" / "fetched", dataclasses.replace(LOCAL, start="1"))
    server.requests.clear()
    # Without LOCAL: what is there needs no leave to be fetched.
    cuts = collect_recipe_cuts(read_recipe(written(tmp_path, f"[[source]]\nlink = '{link}'")))
    assert [(cut.start, cut.stop) for cut in cuts] == [
        (0.0, None)
    ]  # the recipe says what is wanted
    assert not server.requests
