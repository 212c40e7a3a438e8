"""`.ocisyncignore`: gitignore syntax, in the root of the packed directory, for everything below it."""

from __future__ import annotations

from collections.abc import Sequence

from ocisync.model.errors import Finding, InvalidInput

IGNORE_FILE = ".ocisyncignore"
_MAX_BYTES = 1024 * 1024


class IgnoreRules:
    """Decides which paths are left out. Without rules nothing is."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self._spec = None
        if lines:
            from pathspec import GitIgnoreSpec  # 20 ms that most pushes do not need

            self._spec = GitIgnoreSpec.from_lines(lines)

    def matches(self, path: str) -> bool:
        """Tell whether a file (relative, `/`-separated) is to be left out."""
        return self._spec is not None and self._spec.match_file(path)


def parse_ignore(data: bytes | None) -> IgnoreRules:
    """Read an ignore file; None means that there is none.

    Raises:
        InvalidInput: for patterns that are none.
    """
    if data is None:
        return IgnoreRules()
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")  # noqa: TRY301  # one way out
        return IgnoreRules(data.decode("utf-8-sig").splitlines())
    except ValueError as err:
        finding = Finding(IGNORE_FILE, 0, 0, f"not gitignore patterns: {err}")
        raise InvalidInput(str(finding), findings=(finding,)) from err
