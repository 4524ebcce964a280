"""A slice: request it, look at it, delete it, and look whether that had its effect."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calls import Answer, CleaningError, TimeLimitError, now
from gcloud import Gcloud, error_code, explain, json_of, last_error, printable, refusal
from messages import PreemptedError, UserError, say

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LABEL = "rvc-jax"
TOKEN = "rvc-jax-request"
HERE = Path(__file__).resolve().parent
ABSENT = "absent"
UNKNOWN = "unknown"
# Google's states of a slice and of a queued request, and what they mean here. Others are unknown.
SLICE_STATES = {
    "READY": "ready",
    **dict.fromkeys(("CREATING", "STARTING", "RESTARTING", "REIMAGING"), "waiting"),
    **dict.fromkeys(("REPAIRING", "UNHIDING"), "waiting"),
    **dict.fromkeys(("PREEMPTED", "TERMINATED", "STOPPING", "STOPPED"), "preempted"),
    **dict.fromkeys(("DELETING", "HIDING", "HIDDEN"), "preempted"),
}
REQUEST_STATES = {
    **dict.fromkeys(("CREATING", "ACCEPTED", "PROVISIONING", "ACTIVE"), "waiting"),
    "WAITING_FOR_RESOURCES": "waiting",
    **dict.fromkeys(("SUSPENDING", "SUSPENDED", "DELETING"), "preempted"),
    "FAILED": "failed",
}
LOST = ("preempted", "failed", ABSENT)
GROUPS = ("tpu-vm", "queued-resources")
LOOK_LIMIT = 45  # seconds for a call that only asks or only sends a request
CREATE_LIMIT = 1800  # a slice on demand is awaited by the call itself
REQUEST_LIMIT = 300
SENDING = 15  # seconds that a request may be sent on after Ctrl-C
ARRIVING = 30  # seconds in which a request without an answer may still take effect
DELETE_TRIES = 6
LAST_TRIES = 2  # after a deletion that failed for good
ABSENCES = 5  # how often a new request may not be there yet
DELETING_SECONDS = 900  # what Google may take to delete a slice
SETUP_DEADLINE = 600  # the hosts' own deadline comes this long after --at-most


@dataclass(frozen=True)
class Look:
    """What Google said about one name: the state of the slice and of its request.

    The states are Google's words, ABSENT or UNKNOWN. token: the request's label, None if the answer
    has no labels. hosts: how many hosts the slice has, 0 if not known.
    """

    slice: str
    request: str
    error: str = ""
    reason: str = ""
    token: str | None = None
    hosts: int = 0

    @property
    def state(self) -> str:
        """ready, waiting, preempted, failed, absent or unknown."""
        if self.slice == ABSENT:
            if self.request in (ABSENT, UNKNOWN):
                return self.request
            return REQUEST_STATES.get(self.request, UNKNOWN)
        return SLICE_STATES.get(self.slice, UNKNOWN)

    @property
    def gone(self) -> bool:
        return self.slice == ABSENT and self.request == ABSENT

    @property
    def is_going(self) -> bool:
        """Whether Google says that it is being deleted."""
        return "DELETING" in (self.slice, self.request) or self.request == "SUSPENDING"

    @property
    def summary(self) -> str:
        """The states for a message."""
        if self.slice != ABSENT:
            return self.slice
        return self.request if self.request in (ABSENT, UNKNOWN) else f"request {self.request}"


@dataclass
class Slice:
    """The slice that this command may create and must delete then."""

    gcloud: Gcloud
    deadline: float
    retry_seconds: float
    scratch: Path
    token: str = ""  # of the last request
    asked: bool = False  # whether something may exist that this command has requested
    answered: bool = True  # whether the last request got an answer
    disputed: bool = False  # whether Google said that the name existed before the request
    may_come: bool = False  # whether a request without an answer may still take effect
    tries: int = DELETE_TRIES  # how often a deletion is asked for
    tokens: list[str] = field(default_factory=list)
    last: str = UNKNOWN  # the state when last seen, for messages
    found_others: dict[str, str] = field(default_factory=dict)
    pretended: str = "READY"  # what --dry-run takes for the state

    def __post_init__(self) -> None:
        self.options = self.gcloud.options
        self.name = self.options.name
        self.title = self.options.title
        self.pause = self.gcloud.caller.pause

    # --- looking ------------------------------------------------------------------------------

    def look(self) -> Look:
        """Asks Google for the slice and, unless that is there, for its request."""
        state, about, error = self._describe("tpu-vm")
        if self.options.dry_run:
            return Look(self.pretended, ABSENT)
        if state not in (ABSENT, UNKNOWN):
            endpoints = about.get("networkEndpoints")
            hosts = len(endpoints) if isinstance(endpoints, list) else 0
            return Look(state, UNKNOWN, error, token=token_of(about), hosts=hosts)
        request, about, request_error = self._describe("queued-resources")
        node = node_of(about)
        reason = failure_of(about)
        return Look(state, request, error or request_error, reason, token_of(node))

    def look_at_both(self) -> Look:
        """Asks Google for the slice and for its request."""
        look = self.look()
        if look.slice in (ABSENT, UNKNOWN) or self.options.dry_run:
            return look
        request, _, error = self._describe("queued-resources")
        return Look(look.slice, request, look.error or error, token=look.token)

    def look_until_known(self, tries: int = 5) -> Look:
        """Asks again while the answer is unknown."""
        look = self.look()
        for attempt in range(1, tries):
            if look.state != UNKNOWN:
                break
            say(f"the state of {self.title} is unknown ({look.error}); asking again")
            self.pause(self.retry_seconds * attempt)
            look = self.look()
        return look

    def _describe(self, group: str) -> tuple[str, dict[str, Any], str]:
        """The state (Google's word, ABSENT or UNKNOWN), all that was said, and the error."""
        answer = self.gcloud.tpus(
            group, "describe", self.name, "--format=json", limit=LOOK_LIMIT
        )
        if error_code(answer, f"compute.tpus.{group}.describe") == "NOT_FOUND":
            return ABSENT, {}, ""
        if not answer.succeeded:
            return UNKNOWN, {}, last_error(answer)
        about = json_of(answer.out)
        if not isinstance(about, dict) or not self._is_named(about):
            return UNKNOWN, {}, "gcloud's answer is not about it"
        state = about.get("state")
        if group == "queued-resources" and isinstance(state, dict):
            state = state.get("state")
        known = SLICE_STATES if group == "tpu-vm" else REQUEST_STATES
        if not isinstance(state, str) or state not in known:
            return UNKNOWN, about, f"gcloud says the state {str(state)[:40]!r}"
        return state, about, ""

    def _is_named(self, about: dict[str, Any]) -> bool:
        name = about.get("name", self.name)
        return isinstance(name, str) and name.rpartition("/")[2] == self.name

    def others(self) -> tuple[dict[str, str], str]:
        """Slices and requests of these scripts in the zone, with their states; and an error."""
        found: dict[str, str] = {}
        for group in GROUPS:
            answer = self.gcloud.tpus(group, "list", "--format=json", limit=LOOK_LIMIT)
            items = json_of(answer.out) if answer.succeeded else None
            if self.options.dry_run:
                continue
            if not isinstance(items, list):
                why = "its answer is no list" if answer.succeeded else last_error(answer)
                return found, f"{group}: {why}"
            for item in items:
                if isinstance(item, dict) and isinstance(item.get("name"), str):
                    name = item["name"].rpartition("/")[2]
                    state = item.get("state")
                    state = state.get("state") if isinstance(state, dict) else state
                    node = node_of(item) if group == "queued-resources" else item
                    labels = node.get("labels")
                    if name == self.name or (isinstance(labels, dict) and LABEL in labels):
                        found.setdefault(printable(name), printable(str(state))[:40])
        return found, ""

    def require_there(self) -> None:
        """Raises PreemptedError if Google says that the slice is gone."""
        if self.look().state in LOST:
            raise PreemptedError

    # --- requesting ---------------------------------------------------------------------------

    def claim(self) -> None:
        """Raises UserError unless the name is free."""
        if self.options.dry_run:
            self.look()
            return
        look = self.look_until_known()
        if look.gone:
            return
        if look.state == UNKNOWN:
            raise UserError(
                f"{self.title} can't be looked up ({look.error}): nothing was requested; try again"
            )
        raise UserError(
            f"{self.title} is there already ({look.summary}): choose another name, or "
            f"`tpu delete {self.name} --zone {self.options['zone']}`"
        )

    def create(self) -> None:
        """Requests the slice and waits until it is ready. Its hosts set their own deadline at boot.

        Raises:
            PreemptedError: Google took the slice before it was ready.
            UserError: Google refused it, or none came in time.
        """
        options = self.options
        self.token = os.urandom(8).hex()
        end = int(self.deadline) + SETUP_DEADLINE
        labels = f"{LABEL}=launch,{TOKEN}={self.token}"
        metadata = (
            f"rvc-jax-name={self.name},rvc-jax-zone={options['zone']},rvc-jax-deadline={end}"
        )
        request = [
            f"--accelerator-type={options['type']}",
            f"--scopes={SCOPE}",
            f"--labels={labels}",
            f"--metadata={metadata}",
            f"--metadata-from-file=startup-script={self._startup_script(end)}",
        ]
        if options["service-account"]:
            request.append(f"--service-account={options['service-account']}")
        say(
            f"requesting {options['type']} ({options['kind']}) in {options['zone']}; it deletes "
            f"itself at {date_of(end)}"
        )
        self.tokens.append(self.token)
        self.asked = True
        self.answered = False
        self._send(request, end)
        self.answered = True
        self.pretended = "READY"
        self._await_ready()

    def _send(self, request: list[str], end: int) -> None:
        """Sends the request; the command of gcloud depends on the kind."""
        options = self.options
        zone = f"--zone={options['zone']}"
        words = ["compute", "tpus", "tpu-vm", "create", self.name]
        words += [f"--version={options.runtime}", *request, zone]
        limit = CREATE_LIMIT
        if options["kind"] != "on-demand":
            words = ["compute", "tpus", "queued-resources", "create", self.name, *request, zone]
            words += [f"--node-id={self.name}", f"--runtime-version={options.runtime}"]
            words += [f"--valid-until-duration={options.queue_seconds}s"]
            limit = REQUEST_LIMIT
        if options["kind"] == "spot":
            words.append("--spot")
        if options["kind"] == "flex":
            # Google ends flex slices after this time; the other kinds lack the option.
            words += [
                "--provisioning-model=flex-start",
                f"--max-run-duration={int(end - now())}s",
            ]
            words.insert(0, "alpha")
        answer = self.gcloud.call(words, limit, grace=SENDING)
        if answer.succeeded:
            return
        kind = refusal(answer.err)
        self.answered = answer.code == 1 and kind not in ("network", "other")
        if kind == "exists" and self._is_ours():
            # gcloud sent its request twice, and the first one had arrived.
            say(f"{self.title} exists by this command's own request")
            return
        raise UserError(explain(options, answer))

    def _is_ours(self) -> bool:
        """Looks whether what exists under the name has this command's label."""
        self.disputed = True
        look = self.look_until_known()
        self.asked = look.token == self.token or look.state == UNKNOWN
        return look.token == self.token

    def _startup_script(self, end: int) -> Path:
        """Writes deadline.sh with the slice's deadline in it: the hosts need no network for it."""
        values = {
            "RVC_JAX_DEADLINE": end,
            "RVC_JAX_SECONDS": int(end - now()),
            "RVC_JAX_NAME": self.name,
            "RVC_JAX_ZONE": self.options["zone"],
        }
        first, _, rest = (HERE.parent / "deadline.sh").read_text().partition("\n")
        lines = [first, *(f"{key}={value}" for key, value in values.items()), rest]
        file = self.scratch / "deadline.sh"
        file.write_text("\n".join(lines))
        return file

    def _await_ready(self) -> None:
        """Waits until the slice is ready."""
        options = self.options
        until = now() + options.queue_seconds + 900
        before = ""
        absent = 0
        limit = f"--queue-for {options['queue-for']}"
        try:
            while now() < until:
                look = self.look()
                if look.state == "ready":
                    return
                if look.state == "preempted":
                    raise PreemptedError
                if look.state == "failed":
                    reason = look.reason or "there is no more capacity"
                    raise UserError(explain(options, Answer(1, "", reason)))
                absent = absent + 1 if look.state == ABSENT else 0
                if absent == ABSENCES:
                    raise UserError(f"the request for {self.title} no longer exists")
                line = look.summary + (f" ({look.error})" if look.error else "")
                if line != before:
                    say(f"{self.name}: {line}")
                before = line
                self.pause(options.poll_seconds)
        except TimeLimitError:
            limit = f"--at-most {options['at-most']}"
        raise UserError(
            f"no {options['type']} came in {options['zone']} within {limit}: try another zone "
            f"({options.zones}), or a longer time"
        )

    # --- deleting -----------------------------------------------------------------------------

    def delete(self) -> bool:
        """Deletes the slice and its request, and looks until both are gone.

        Returns whether they are. The time is bounded by the caller's cleaning.
        """
        if self.options.dry_run:
            self._ask_to_delete("queued-resources")
            self._ask_to_delete("tpu-vm")
            self.pretended = ABSENT
            self.asked = False
            return True
        try:
            gone = self._delete()
        except CleaningError:
            gone = False
        self.tries = DELETE_TRIES if gone else LAST_TRIES
        self.asked = self.asked and not gone
        return gone

    def _delete(self) -> bool:
        tries = 0
        found = False
        since = now()
        while True:
            look = self.look_at_both()
            if found and look.summary not in (self.last, ABSENT):
                say(f"deleting {self.name}: {look.summary}")
            self.last = look.summary
            if look.gone:
                if self._is_settled(found, since):
                    return True
                self.pause(5)
                continue
            if self._is_foreign(look):
                say(f"{self.title} is left alone: somebody else requested it")
                self.asked = False
                return True
            found = found or look.state != UNKNOWN
            if look.is_going and now() - since < DELETING_SECONDS:
                self.gcloud.caller.extend(60)
                if tries:
                    self.pause(5)
                    continue
            if tries == self.tries:
                return False
            tries += 1
            error = look.error if self._is_undecided(look) else self._ask(look, tries)
            if error:
                again = "; trying again" if tries < self.tries else ""
                say(f"deleting {self.name} failed ({error}){again}")
                self.pause(self.retry_seconds * tries)
            elif tries > 1:
                self.pause(5 * tries)

    def _is_settled(self, found: bool, since: float) -> bool:
        """Whether what is gone stays gone: no request is on its way, and no list has the name."""
        if not self.answered and not found:
            if now() - since < ARRIVING:
                return False
            self.may_come = True
        others, error = self.others()
        if self.name in others:
            self.last = others[self.name]
            return False
        self.found_others = others
        if error:
            say(f"other slices in {self.options['zone']} could not be listed ({error})")
        if found:
            say(f"deleted {self.title}")
        elif not self.may_come:
            say(f"there is nothing called {self.title}")
        return True

    def _is_foreign(self, look: Look) -> bool:
        """Whether what exists was requested by somebody else, according to its label."""
        if not self.tokens or look.state == UNKNOWN or look.token in self.tokens:
            return False
        return self.disputed or look.token is not None

    def _is_undecided(self, look: Look) -> bool:
        """Whether nothing says that what may exist is this command's."""
        return self.disputed and look.token not in self.tokens

    def _ask(self, look: Look, tries: int) -> str:
        """Asks Google to delete what may be there; returns the error, if there is one."""
        errors = []
        if look.request != ABSENT:
            errors.append(self._ask_to_delete("queued-resources"))
        if look.slice != ABSENT and (look.request in (ABSENT, UNKNOWN) or tries > 1):
            errors.append(self._ask_to_delete("tpu-vm"))
        return next(filter(None, errors), "")

    def _ask_to_delete(self, group: str) -> str:
        """Sends a deletion; returns the error, "" if Google accepted it or has no such thing."""
        words = [group, "delete", self.name, "--async"]
        if group == "queued-resources":
            words.append("--force")
        answer = self.gcloud.tpus(*words, limit=LOOK_LIMIT)
        code = error_code(answer, f"compute.tpus.{group}.delete")
        return "" if answer.succeeded or code == "NOT_FOUND" else last_error(answer)


def token_of(about: dict[str, Any]) -> str | None:
    """The label that says which request it belongs to; None if it has no labels."""
    labels = about.get("labels")
    return str(labels.get(TOKEN, "")) if isinstance(labels, dict) else None


def node_of(request: dict[str, Any]) -> dict[str, Any]:
    """The slice that a queued request describes; {} if it does not."""
    tpu = request.get("tpu")
    specs = tpu.get("nodeSpec") if isinstance(tpu, dict) else None
    spec = specs[0] if isinstance(specs, list) and specs else None
    node = spec.get("node") if isinstance(spec, dict) else None
    return node if isinstance(node, dict) else {}


def failure_of(request: dict[str, Any]) -> str:
    """Google's reason why a queued request failed; "" if it gives none."""
    value: Any = request
    for key in ("state", "failedData", "error", "message"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def date_of(seconds: float) -> str:
    """A time of the clock on the wall."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
