"""The commands of `tpu`."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from calls import Caller, TimeLimitError, now
from gcloud import Gcloud, explain, json_of, last_error
from hosts import UNKNOWN, Hosts, require
from messages import PreemptedError, UserError, say
from options import Options
from slices import LOST, Slice

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "rvc_jax", "data/sample", "docs/plan.json")
LINGER = 1800  # seconds from the end of the training until the slice deletes itself
MISSES = 15  # how many times in a row the hosts may not answer
TAKEOVER = float(
    os.environ.get("RVC_JAX_TAKEOVER", "330")
)  # seconds that a lost run is claimed
STOPPING = 330  # seconds for saving at the time limit
DELETING = 1200  # seconds for deleting the slice after the training
BRINGING = 8000  # seconds for downloading the voice


class Steps:
    """One command, for one slice."""

    def __init__(self, options: Options, caller: Caller, slice_: Slice, scratch: Path) -> None:
        self.options = options
        self.caller = caller
        self.slice = slice_
        self.gcloud: Gcloud = slice_.gcloud
        self.hosts = Hosts(slice_)
        self.scratch = scratch
        self.trains = False  # whether a training was started

    # --- one step at a time -------------------------------------------------------------------

    def look_for_dataset(self) -> None:
        """Raises UserError if the dataset does not exist: a typo should not cost a slice."""
        dataset = self.options["dataset"].rstrip("/")
        answer = self.gcloud.call(("storage", "ls", f"{dataset}/dataset_info.json"), 120)
        if answer.succeeded:
            return
        if answer.code == 1 and "matched no objects" in answer.err:
            raise UserError(
                f"there is no dataset at {dataset}: rvc-jax prepare SPEECH --out {dataset}"
            )
        raise UserError(explain(self.options, answer))

    def setup(self) -> None:
        """Copies the package (a wheel, or an archive of the commit) to all hosts; installs it."""
        source = Path(self.options["wheel"])
        if not self.options["wheel"]:
            source = self._archive()
        say(f"installing on all hosts of {self.slice.name}")
        require(self.hosts.copy(source), self.slice, "copying the package")
        require(self.hosts.run("all", "install", source.name), self.slice, "installing")

    def _archive(self) -> Path:
        """Writes an archive of the commit."""
        file = self.scratch / "rvc_jax-source.tar.gz"
        words = ["git", "-C", str(ROOT), "archive", "--format=tar.gz", "--prefix=rvc_jax/"]
        words += [f"--output={file}", self.options["ref"], *PACKAGE]
        answer = self.gcloud.program(words, 300)
        if not answer.succeeded:
            raise UserError(f"git archive failed: {last_error(answer)}")
        return file

    def require_source(self) -> None:
        """Raises UserError if the commit does not exist."""
        if self.options["wheel"]:
            return
        ref = self.options["ref"]
        words = [
            "git",
            "-C",
            str(ROOT),
            "rev-parse",
            "--quiet",
            "--verify",
            f"{ref}^{{commit}}",
        ]
        if not self.caller.run(words, 60).succeeded:
            raise UserError(f"--ref {ref} is not a commit of {ROOT}: name one, or pass --wheel")

    def train(self, linger: int) -> None:
        """Starts the training on all hosts. linger: 0 keeps the slice after its end."""
        words = [self.options["dataset"], "--run", self.options["run"], "--progress", "lines"]
        if self.options["budget"]:
            words += ["--budget", self.options["budget"]]
        self.trains = True
        answer = self.hosts.run("all", "start", str(linger), *words, *self.options.train)
        require(answer, self.slice, "starting the training (tpu setup comes before it)")

    def follow(self) -> int:
        """Waits for the end of the training and returns its exit code.

        Raises:
            PreemptedError: the slice is gone.
            UserError: the hosts did not answer for long.
        """
        poll = self.options.poll_seconds
        count = self.slice.look().hosts
        misses = 0
        while True:
            state = self.hosts.training(count)
            if state == "gone":
                raise PreemptedError
            if state.startswith("ended"):
                return self._ended(int(state.split()[1]))
            if state != UNKNOWN:
                misses = 0
                self.caller.pause(poll)
                continue
            look = self.slice.look()
            count = look.hosts or count
            if look.state in LOST:
                raise PreemptedError
            misses += 1
            if misses == MISSES:
                raise UserError(
                    f"the hosts of {self.slice.name} did not answer {MISSES} times in a row: "
                    f"{self.hosts.error}"
                )
            say(f"the hosts do not answer ({self.hosts.error}); trying again")
            self.caller.pause(poll * min(4, misses))

    def _ended(self, code: int) -> int:
        """The exit code, unless the training ended because the slice was preempted."""
        if code:
            # Google reports a preemption with a delay.
            self.caller.pause(self.options.poll_seconds)
        self.slice.require_there()
        return code

    def export(self) -> None:
        """Exports the voice on the first host, into the run's folder."""
        words = ["export", self.options["run"]]
        if self.options["format"]:
            words += ["--format", self.options["format"]]
        answer = self.hosts.run("0", *words)
        require(answer, self.slice, f"exporting the voice of {self.options['run']}")

    def bring(self) -> None:
        """Downloads the exported voice and the report from the run at gs://.

        They arrive in a folder of their own first: gcloud may succeed without copying anything.
        """
        run = self.options["run"].rstrip("/")
        target = Path(self.options["to"])
        if self.options.dry_run:
            self.gcloud.call(
                ("storage", "cp", "--recursive", f"{run}/voice", f"{target}/"), 3600
            )
            self.gcloud.call(("storage", "cp", f"{run}/report.html", f"{target}/voice/"), 3600)
            return
        advice = f"rvc-jax export {run} --out {target}/voice"
        try:
            with tempfile.TemporaryDirectory(prefix=".voice-", dir=target) as folder:
                words = ("storage", "cp", "--recursive", f"{run}/voice", f"{folder}/")
                answer = self.gcloud.call(words, 3600)
                voice = Path(folder) / "voice"
                error = "" if answer.succeeded else last_error(answer)
                error = error or self._incomplete(voice)
                if error:
                    raise UserError(f"no voice could be fetched from {run} ({error}): {advice}")
                self.gcloud.call(("storage", "cp", f"{run}/report.html", f"{voice}/"), 600)
                move(voice, target / "voice")
        except OSError as error:
            raise UserError(
                f"{target}/voice can't be written ({error.strerror}): {advice}"
            ) from None
        say(f"the voice is in {target}/voice")

    def _incomplete(self, voice: Path) -> str:
        """What is missing in the downloaded folder: every object of the bucket, of its size."""
        sizes = sizes_in(voice)
        if not any(sizes.values()):
            return "gcloud copied nothing"
        url = f"{self.options['run'].rstrip('/')}/voice/**"
        listed = self.gcloud.call(("storage", "objects", "list", url, "--format=json"), 120)
        items = json_of(listed.out) if listed.succeeded else None
        for item in items if isinstance(items, list) else []:
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str) or "/voice/" not in name or name.endswith("/"):
                continue
            path = name.rpartition("/voice/")[2]
            if str(sizes.get(path)) != str(item.get("size", sizes.get(path))):
                return f"gcloud did not copy all of {path}"
        return ""

    def fetch(self) -> None:
        """Exports the voice if the slice is ready, and downloads what the run has."""
        look = self.slice.look()
        if look.state == "ready":
            try:
                self.export()
            except (UserError, PreemptedError) as error:
                reason = str(error) or "the slice was taken away"
                say(f"{reason}; looking for an earlier voice in {self.options['run']}")
        elif look.state == UNKNOWN:
            say(f"the state of the slice is unknown ({look.error}): nothing is exported now")
        self.bring()

    # --- run ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Trains to the end, on a new slice after every preemption; then fetches the voice."""
        self.look_for_dataset()
        self.slice.claim()
        restarts = 0
        lost = 0.0
        while True:
            try:
                code = self._attempt(lost)
                break
            except PreemptedError:
                lost = now()
            allowed = int(self.options["restarts"])
            if restarts == allowed:
                raise UserError(
                    f"the slice was taken away {restarts + 1} times, and --restarts is {allowed}: "
                    f"the run is saved at {self.options['run']}, and the same command continues it"
                )
            restarts += 1
            say(f"the slice was taken away: replacing it ({restarts} of {allowed})")
            if not self.slice.delete():
                raise UserError("it can't be replaced before it is deleted")
        return self._conclude(code)

    def _attempt(self, lost: float) -> int:
        """Creates a slice and trains on it to the end; returns the training's exit code."""
        self.slice.create()
        self.setup()
        wait = int(lost + TAKEOVER - now()) if lost else 0
        if wait > 0:
            say(f"the lost slice's claim to the run ends in {wait} s")
            self.caller.pause(wait)
        self.train(LINGER)
        name = self.slice.name
        say(
            f"training; `tpu logs {name} --zone {self.options['zone']}` or `rvc-jax watch "
            f"{self.options['run']}` follow it"
        )
        code = self.follow()
        self.trains = False
        if code == 0:
            self.export()
        return code

    def _conclude(self, code: int) -> int:
        """Fetches the voice, or shows why the training did not finish."""
        if code == 0:
            # The voice is in the bucket: what follows needs no slice, and costs nothing.
            self.caller.deadline = now() + DELETING
            with suppress(TimeLimitError):  # `finish` tries again
                self.slice.delete()
            self.caller.deadline = now() + BRINGING
            self.bring()
            return 0
        self.hosts.run("all", "tail", "20")
        say(
            "the training failed: its last lines are above; the run is saved at "
            f"{self.options['run']}"
        )
        return 1

    def state(self) -> int:
        """Prints the state of the slice and of the training."""
        look = self.slice.look_until_known(3)
        say(f"{self.slice.title}: {look.state}" + (f" ({look.error})" if look.error else ""))
        self.slice.found_others = self.slice.others()[0]
        self.slice.found_others.pop(self.slice.name, None)
        if look.state == "ready":
            return int(not self.hosts.run("all", "state").succeeded)
        return int(look.state == UNKNOWN)

    def save(self) -> None:
        """Asks the training to save and exit, at the time limit.

        Raises:
            CleaningError: it took too long.
        """
        if self.trains:
            self.caller.clean(STOPPING)
            self.hosts.run("all", "stop")


def sizes_in(folder: Path) -> dict[str, int]:
    """The files in a folder, with their sizes in bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def move(source: Path, target: Path) -> None:
    """Moves all files to the target folder; replaces files there of the same name."""
    for name in sizes_in(source):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(place)
