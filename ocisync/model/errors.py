"""The one error tree. Front ends turn it into text, JSON and an exit code; nothing below them prints or exits.

OcisyncError            1   something failed
├── InvalidInput        1   bad manifests, files, keys: carries findings with file:line:column
├── UsageError          2   wrong arguments
├── Refused             4   by policy or immutability (also: unsigned); carries a reason word
├── NotFound            5   repository, tag, file, object
├── AccessDenied        6   login missing or not sufficient
├── Unavailable         7   network, timeouts, 429, 5xx: try again (transient)
├── ClusterRefused      8   the API server said no
└── Interrupted       130   the user or a signal stopped us
    └── LeaseLost     130   another agent may be the one that writes now
        └── Paused    130   an operator lets nobody write
"""

from __future__ import annotations

from enum import IntEnum

from ocisync.model.values import dataclass


class ExitCode(IntEnum):
    """Exit codes are an API: scripts branch on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DIFFERENCES = 3
    REFUSED = 4
    NOT_FOUND = 5
    DENIED = 6
    TRY_AGAIN = 7
    CLUSTER_REFUSED = 8
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in a user's input.

    `line` and `column` count from 1; 0 means the whole file. `rule` is the name of the check, for machines; empty where
    there is just one.
    """

    file: str
    line: int
    column: int
    message: str
    rule: str = ""

    def __str__(self) -> str:
        """Render as `file:line:column: message`, the form that editors and CI systems link."""
        place = self.file
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        return f"{place}: {self.message}"


class OcisyncError(Exception):
    """Root of all errors that a user is meant to read.

    Args:
        message: what went wrong, naming the subject (reference, file:line, digest) and the value seen.
        hint: the next command or change to try; empty if there is none.
        reason: a PascalCase word for conditions and JSON output; defaults to the class's own.
    """

    exit_code = ExitCode.FAILED
    transient = False
    default_reason = "Failed"

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason = reason or self.default_reason


class InvalidInput(OcisyncError):
    """The user's files are wrong. `findings` lists every problem found, not only the first."""

    default_reason = "InvalidInput"

    def __init__(self, message: str, *, findings: tuple[Finding, ...] = (), hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.findings = findings


class UsageError(OcisyncError):
    """The command line asks for something that makes no sense."""

    exit_code = ExitCode.USAGE
    default_reason = "Usage"


class Refused(OcisyncError):
    """A policy, a signature rule or immutability forbids it. Never transient: someone must change something."""

    exit_code = ExitCode.REFUSED
    default_reason = "Refused"


class NotFound(OcisyncError):
    """The named thing does not exist (or may not be seen)."""

    exit_code = ExitCode.NOT_FOUND
    default_reason = "NotFound"


class AccessDenied(OcisyncError):
    """Credentials are missing or do not allow the request."""

    exit_code = ExitCode.DENIED
    default_reason = "AccessDenied"


class Unavailable(OcisyncError):
    """The other side did not answer properly: timeouts, resets, 429, 5xx. Trying again later can help.

    Args:
        retry_after_s: what the server asked for, in seconds; None if it said nothing.
    """

    exit_code = ExitCode.TRY_AGAIN
    transient = True
    default_reason = "Unavailable"

    def __init__(self, message: str, *, hint: str = "", reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.retry_after_s = retry_after_s


class ClusterRefused(OcisyncError):
    """The API server refused an object or a request."""

    exit_code = ExitCode.CLUSTER_REFUSED
    default_reason = "ClusterRefused"


class Interrupted(OcisyncError):
    """Stopped by a signal or a stop token before the work was done."""

    exit_code = ExitCode.INTERRUPTED
    default_reason = "Interrupted"


class LeaseLost(Interrupted):
    """This process may not write any more, or not now: no fault of what it was about to write."""

    default_reason = "LeaseLost"


class Paused(LeaseLost):
    """An operator has paused all writes: no fault of what was about to be written either."""

    default_reason = "Paused"
