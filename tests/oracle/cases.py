"""The cases of the YAML oracle: by hand (byhand.txt), then combined and grown from a fixed seed. Bytes only."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

SEED = 20_371

BOOLEANS = [
    word
    for base in ("y", "n", "yes", "no", "on", "off", "true", "false")
    for word in (base, base.upper(), base.capitalize(), base[0] + base[1:].upper(), base + "x")
]


def _read_topics() -> dict[str, list[str]]:
    topics: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("byhand.txt").read_text(encoding="ascii").splitlines():
        if line.startswith("== "):
            topics[line[3:]] = current = []
        elif line.startswith('"'):
            current.append(json.loads(line))
    return topics


_TOPICS = _read_topics()
NULLS = _TOPICS.pop("words null")
INTEGERS = _TOPICS.pop("words int")
FLOATS = _TOPICS.pop("words float")
TIMES = _TOPICS.pop("words time")
STRINGS = _TOPICS.pop("words string")
TAGS = _TOPICS.pop("tags")
TAGGED = _TOPICS.pop("tagged")
FRAGMENTS = _TOPICS.pop("fragments")
RAW: list[bytes] = [
    b"\xff",
    b"a: \xff",
    b"a: \xc3",
    b"a: \xc3\x28",
    b"a: \xed\xa0\x80",
    b"a: \xf4\x90\x80\x80",
    b"a: \xc0\x80",
    b"a: \xe2\x82",
    b"\xff\xfea\x00",
    b"\xfe\xff\x00a",
    "a: 1\n".encode("utf-16"),
    "a: 1".encode("utf-16-le"),
    "a: 1\n".encode("utf-16-be"),
    b"\xfe\xff" + "a: 1\n".encode("utf-16-be"),
    b"\xff\xfe" + "a: 1\nb: 2".encode("utf-16-le"),
    "a: 1".encode("utf-32"),
    "é: ü".encode("latin-1"),
    b"# \xff\na: 1",
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": 1}\xff',
    b"a: 1\n--- # \xff\nb: 2",
    b"\xef\xbb",
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbf\n",
    b"a: \xf0\x9f\x98\x80",
    b"a: \xf0\x9f\x98",
    b"a: 1\n\xff",
    b"\x80",
    b"- \xbf",
]


def bombs() -> Iterator[str]:
    """What grows: long keys, deep nesting, aliases of aliases, long scalars. None beyond our own limits."""
    for size in (120, 1022, 1023, 1024, 1025, 1026, 1500, 5000):
        yield "k" * size + ": v"
        yield f"'{'k' * (size - 2)}': v"
        yield "{" + "k" * size + ": v}"
        yield f"? {'k' * size}\n: v"
        yield f"a: {'v' * size}"
    for depth in (10, 50, 98):
        yield "[" * depth + "]" * depth
        yield "".join(" " * i + "a:\n" for i in range(depth)) + " " * depth + "b"
        yield "- " * depth + "x"
    for width, times in ((10, 5), (10, 20), (100, 98), (100, 101), (100, 120), (300, 110)):
        yield f"a: &a [{', '.join(['x'] * width)}]\nb: [{', '.join(['*a'] * times)}]"
        yield f"a: &a {{{', '.join(f'k{i}: x' for i in range(width))}}}\nb: [{', '.join(['*a'] * times)}]"
    for levels in (2, 3):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
        yield "\n".join(lines)
    for times in (90, 95, 99, 100, 101, 110, 150):
        merged = "\n".join(f"m{i}: {{<<: *a}}" for i in range(times * 2))
        yield f"a: &a {{{', '.join(f'k{i}: x' for i in range(60))}}}\n{merged}"
    yield "a: " + "1" * 500
    yield "a: " + "0" * 500 + "7"
    yield "a: 0x" + "0" * 500 + "f"
    yield "a: 0." + "0" * 500 + "1"
    yield "a: " + "1_" * 300
    yield " " * 4090 + '{"a": "\\/"}'
    yield " " * 4100 + '{"a": "\\/"}'
    yield "\n" * 1000 + "a: 1"


CONTEXTS: list[tuple[str, str]] = [
    ("value", "k: %s\n"),
    ("item", "- %s\n- z\n"),
    ("key", "%s: v\n"),
    ("flow item", "[%s, z]\n"),
    ("flow last", "[z, %s]\n"),
    ("flow value", "{k: %s, z: 1}\n"),
    ("flow key", "{%s: v}\n"),
    ("root", "%s\n"),
    ("no newline", "k: %s"),
]


def by_hand() -> Iterator[tuple[str, bytes]]:
    """Named cases, one topic after the other."""
    for topic, texts in _TOPICS.items():
        for index, text in enumerate(texts):
            yield f"{topic} {index}", text.encode()
    for index, raw in enumerate(RAW):
        yield f"bytes {index}", raw
    for index, text in enumerate(bombs()):
        yield f"size {index}", text.encode()
    groups = {"bool": BOOLEANS, "null": NULLS, "int": INTEGERS, "float": FLOATS, "time": TIMES, "string": STRINGS}
    for topic, words in groups.items():
        for index, word in enumerate(words):
            yield f"{topic} {index} value", f"k: {word}\n".encode()
    for tag, word in itertools.product(TAGS, TAGGED):
        yield f"tag {tag} {word}", f"k: {tag} {word}\n".encode()


def combined(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Scalars in contexts."""
    scalars = BOOLEANS + NULLS + INTEGERS + FLOATS + TIMES + STRINGS
    for index in range(count):
        where, template = rng.choice(CONTEXTS)
        yield f"combined {index} {where}", template.replace("%s", rng.choice(scalars)).encode()


def grown(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Whole documents that are mostly sound."""
    for index in range(count):
        yield f"grown {index}", _stream(rng).encode()


def soup(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Fragments of the syntax in any order: mostly broken, and where two parsers disagree first."""
    for index in range(count):
        pieces = [rng.choice(FRAGMENTS) for _ in range(rng.randint(2, 9))]
        yield f"soup {index}", "".join(pieces).encode()


def mutated(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Cases written by hand, changed a little or joined."""
    short = [data for _, data in by_hand() if len(data) < 200]
    for index in range(count):
        data = bytearray(rng.choice(short))
        for _ in range(rng.randint(1, 3)):
            _mutate(rng, data, rng.choice(short))
        yield f"mutated {index}", bytes(data)


def _mutate(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(5):
        case 0:
            del data[at : at + rng.randint(1, 3)]
        case 1:
            data[at:at] = rng.choice(FRAGMENTS).encode()
        case 2:
            data[at:] = other[rng.randrange(len(other) + 1) :]
        case 3:
            data += b"\n" + other
        case _:
            data[at : at + 1] = bytes([rng.choice(b" \n\t:-,[]{}#&*!|>'\"%@`?\\~=yn01e.")])


def _stream(rng: random.Random) -> str:
    documents = [_block(rng, 0, rng.randint(1, 3)) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    text = rng.choice(("---\n", "--- # c\n", "---\n\n")).join(documents)
    text = rng.choice(("", "", "---\n", "# c\n", "\ufeff")) + text
    if rng.random() < 0.1:
        text = text.replace("\n", "\r\n")
    return text.rstrip("\n") if rng.random() < 0.2 else text


def _block(rng: random.Random, indent: int, depth: int) -> str:
    pad = " " * indent
    lines: list[str] = []
    sequence = rng.random() < 0.3
    for _ in range(rng.randint(1, 4)):
        lead = pad + ("- " if sequence else f"{_key(rng)}:{rng.choice((' ', '  '))}")
        if rng.random() < 0.1:
            lead += rng.choice(("&a ", "!!str ", "!x ", "&a !!str "))
        choice = rng.random()
        if depth and choice < 0.35:
            lines.append(lead.rstrip(" ") + "\n" + _block(rng, indent + rng.choice((1, 2, 4)), depth - 1))
        elif choice < 0.45:
            lines.append(f"{lead}{rng.choice('|>')}{rng.choice(('', '-', '+'))}\n" + _lines(rng, indent + 2))
        elif choice < 0.65:
            lines.append(f"{lead}{_flow(rng, 2)}\n")
        else:
            lines.append(f"{lead}{_scalar(rng)}{rng.choice(('', '', '', ' # c'))}\n")
        if rng.random() < 0.1:
            lines.append(rng.choice(("\n", f"{pad}# c\n", "# c\n", "  \n")))
    return "".join(lines)


def _lines(rng: random.Random, indent: int) -> str:
    out = ""
    for _ in range(rng.randint(1, 4)):
        out += (
            " " * (indent + rng.choice((0, 0, 0, 1, 2)))
            + rng.choice(("text", "a: b", "- c", "# d", "'", "\\n", "é", "x "))
            + "\n"
        )
        out += rng.choice(("", "", "", "\n", " \n"))
    return out


def _flow(rng: random.Random, depth: int) -> str:
    if not depth or rng.random() < 0.3:
        return _scalar(rng)
    inner = [_flow(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    comma = rng.choice((",", ", ", " , "))
    if rng.random() < 0.5:
        return f"[{comma.join(inner)}]"
    return "{" + comma.join(f"{_key(rng)}{rng.choice((': ', ': ', ':'))}{value}" for value in inner) + "}"


def _key(rng: random.Random) -> str:
    return rng.choice(("a", "b", "c", "name", "x-y", "'q'", '"r"', "1", "y", "<<", "é", "a b", "1.5", "~", "?"))


def _scalar(rng: random.Random) -> str:
    pick: Callable[[list[str]], str] = rng.choice
    return pick(
        rng.choice((BOOLEANS, NULLS, INTEGERS, FLOATS, TIMES, STRINGS, ["a", "b c", "*a", "'x'", '"y"', "{}", "[]"]))
    )


def all_cases() -> list[tuple[str, bytes]]:
    """Every case of the committed fixture, each content once."""
    rng = random.Random(SEED)
    everything = itertools.chain(by_hand(), combined(rng, 700), grown(rng, 400), soup(rng, 700), mutated(rng, 800))
    unique: dict[bytes, str] = {}
    for name, data in everything:
        unique.setdefault(data, name)
    return [(name, data) for data, name in unique.items()]
