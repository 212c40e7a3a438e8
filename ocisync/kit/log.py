"""Structured logs on the standard `logging` module: constant message, key=value fields, secrets taken out.

    log = logger("agent")
    log.info("object applied", object="Deployment shop/web", digest="sha256:…")

`JsonFormatter` writes one JSON object per line for clusters, `ConsoleFormatter` one readable line for terminals.
Redaction is the last step before text leaves the process, so no caller can forget it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from ocisync.kit.plaintext import plain, plain_json

_REDACTIONS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 [redacted]"),
    (
        re.compile(r"(?i)(\b(?:password|passwd|secret|token|api[_-]?key|authorization)\b\"?\s*[=:]\s*\"?)[^\s\",;&]+"),
        r"\1[redacted]",
    ),
    # Schemes are short; without a bound, long foreign text without any :// would take quadratic time.
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s?#]+@"), r"\1"),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        "[redacted key]",
    ),
)


def redact(text: str) -> str:
    """Take credentials out of a text: bearer and basic values, `password=`-like pairs, URL user info, private keys."""
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


class Logger:
    """A thin front on one `logging.Logger`: fields are keyword arguments."""

    def __init__(self, inner: logging.Logger) -> None:
        self._inner = inner

    def debug(self, message: str, **fields: object) -> None:
        """Detail for someone who debugs."""
        self._emit(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """A state change."""
        self._emit(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Someone should look, nothing is broken."""
        self._emit(logging.WARNING, message, fields)

    def error(self, message: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Something failed; `error` adds its type and, at debug level, its traceback."""
        if error is not None:
            fields.setdefault("error", f"{type(error).__name__}: {error}")
        self._emit(logging.ERROR, message, fields, error)

    def _emit(self, level: int, message: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        if self._inner.isEnabledFor(level):
            show_trace = error is not None and self._inner.isEnabledFor(logging.DEBUG)
            self._inner.log(level, message, extra={"fields": dict(fields)}, exc_info=error if show_trace else None)


def logger(component: str) -> Logger:
    """The logger of one part of the program; its name becomes the `component` field."""
    return Logger(logging.getLogger(f"ocisync.{component}"))


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return redact(str(value))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, component, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("ocisync."),
            "message": redact(record.getMessage()),
        }
        for key, value in getattr(record, "fields", {}).items():
            line.setdefault(key, _plain(value))
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return plain_json(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


class ConsoleFormatter(logging.Formatter):
    """`LEVEL message key=value …` for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields = " ".join(f"{key}={_plain(value)}" for key, value in getattr(record, "fields", {}).items())
        text = f"{record.levelname.lower():7} {redact(record.getMessage())}"
        if fields:
            text += f"  {fields}"
        text = plain(text)
        if record.exc_info:
            text += "\n" + redact(self.formatException(record.exc_info))
        return text


def configure(stream: TextIO, *, level: int, json_lines: bool) -> None:
    """Send everything below `ocisync` to `stream`; other libraries' logs only from warnings up."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if json_lines else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ocisync").setLevel(level)
