"""What kubectl's libraries answer to a case, and whether our reader agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocisync.kit.yamlio import parse_documents
from ocisync.model.errors import InvalidInput

FIXTURE = Path(__file__).with_name("answers.jsonl")

# Where our reader refuses what the oracle reads, and why. The first three are marked by the oracle itself.
STRICTER = {
    "dropped": "kubectl silently ignores text behind the end of a document",
    "collides": "kubectl picks one of two equal keys at random",
    "replaced": "kubectl silently replaces what is no text by U+FFFD",
    "encoding": "manifests are UTF-8; kubectl reads UTF-16 if no line end is cut in half, and drops some broken UTF-8",
    "mark": "a byte order mark at the start of a line becomes a part of a key",
}


_MARKS = ("dropped", "collides", "replaced")
_LONG = 1_000  # bytes of an input, and characters of an answer, beyond which the fixture has a hash


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the oracle: the documents that are not empty, or None for an error. A long answer is only its hash."""

    documents: tuple[Any, ...] | None
    dropped: bool = False
    collides: bool = False
    replaced: bool = False
    hashed: bool = False

    def agrees(self, documents: tuple[Any, ...]) -> bool:
        """Tell whether these are the documents, of the same types all the way down."""
        if self.documents is None:
            return False
        return self.documents == (_hash(documents),) if self.hashed else same(documents, self.documents)


def ask(oracle: Path, inputs: Iterable[bytes]) -> list[Answer]:
    """Ask the Go libraries.

    Raises:
        AssertionError: if strict and lenient reading disagree where they must not.
    """
    data = list(inputs)
    lines = "".join(json.dumps({"data": base64.b64encode(item).decode()}) + "\n" for item in data)
    result = subprocess.run([str(oracle)], input=lines, capture_output=True, text=True, check=True, timeout=600)
    answers = []
    for item, line in zip(data, result.stdout.removesuffix("\n").split("\n"), strict=True):
        said = json.loads(line)
        assert not said.get("disagrees"), f"kubectl's own decoder reads {item!r} in another way: {line}"
        answers.append(decode(said))
    return answers


def decode(said: dict[str, Any]) -> Answer:
    """One line of the oracle or of the fixture."""
    if said.get("error"):
        return Answer(None)
    marks = {name: bool(said.get(name)) for name in _MARKS}
    if "hash" in said:
        return Answer((said["hash"],), hashed=True, **marks)
    documents = () if marks["collides"] else tuple(said["documents"])  # random if keys collide
    if len(json.dumps(documents)) > _LONG:
        return Answer((_hash(documents),), hashed=True, **marks)
    return Answer(documents, **marks)


def _hash(documents: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()


def read(data: bytes, name: str = "f.yaml") -> tuple[Any, ...] | None:
    """What our reader makes of it; None for an error, which always has a place."""
    try:
        return tuple(doc.value for doc in parse_documents(data, name) if doc.value is not None)
    except InvalidInput as err:
        for finding in err.findings:
            assert finding.line >= 1, f"no line: {finding}"
            assert finding.column >= 1, f"no column: {finding}"
            assert "\n" not in finding.message
        assert err.findings
        return None


def stricter(answer: Answer, data: bytes) -> str:
    """Which rule makes our reader stricter on this case: a key of STRICTER, or nothing."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "encoding"
    if any(char + "\ufeff" in text for char in "\n\r\x85\u2028\u2029\ufeff"):
        return "mark"
    return next((rule for rule in _MARKS if getattr(answer, rule)), "")


def disagreement(data: bytes, answer: Answer) -> str:
    """What is different, in a sentence; empty if nothing is."""
    ours = read(data)
    rule = stricter(answer, data)
    if answer.documents is not None and rule and ours is None:
        return ""
    if answer.documents is not None and rule in _MARKS:
        return f"{data!r}: must be refused ({rule}), we read {ours!r}"
    if ours is None and answer.documents is not None:
        return f"{data!r}: kubectl reads {answer.documents!r}, we refuse"
    if ours is not None and answer.documents is None:
        return f"{data!r}: kubectl refuses, we read {ours!r}"
    if ours is not None and not answer.agrees(ours):
        return f"{data!r}: kubectl reads {answer.documents!r}, we {ours!r}"
    return ""


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same type all the way down: 1 is not 1.0, nor true."""
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return isinstance(right, list | tuple) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def write_fixture(cases: Sequence[tuple[str, bytes]], answers: Sequence[Answer]) -> None:
    """One line a case: its name, its text (or base64), and the answer; of what is long only a hash."""
    with FIXTURE.open("w", encoding="ascii", newline="\n") as out:
        for (name, data), answer in zip(cases, answers, strict=True):
            out.write(json.dumps({"name": name, **_text(data), **_fields(answer)}) + "\n")


def read_fixture(cases: Mapping[str, bytes]) -> list[tuple[str, bytes, Answer]]:
    """All committed cases. Long inputs are taken from the generator's, by name."""
    lines = FIXTURE.read_text(encoding="ascii").splitlines()
    return [(said["name"], _data(said, cases), decode(said)) for said in map(json.loads, lines)]


def _text(data: bytes) -> dict[str, str]:
    if len(data) > _LONG:
        return {"sha256": hashlib.sha256(data).hexdigest()}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _data(said: dict[str, str], cases: Mapping[str, bytes]) -> bytes:
    if "sha256" in said:
        data = cases[said["name"]]
        assert hashlib.sha256(data).hexdigest() == said["sha256"], f"{said['name']} is generated in another way now"
        return data
    return said["text"].encode() if "text" in said else base64.b64decode(said["base64"])


def _fields(answer: Answer) -> dict[str, Any]:
    if answer.documents is None:
        return {"error": True}
    documents = answer.documents
    written = {"hash": documents[0]} if answer.hashed else {"documents": list(documents)}
    return {**written, **{name: True for name in _MARKS if getattr(answer, name)}}
