"""Copying between two registries, beside skopeo: many small images, a few large blobs; and a copy of what is there."""

from __future__ import annotations

import itertools
import json
import random
import shutil

from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.oci.client import open_store
from ocisync.signing.keys import generate
from tests.bench import measure
from tests.bench.environment import Bench, binary
from tests.bench.measure import Sample
from tests.bench.report import Line, Row
from tests.servers import build
from tests.support.closures import push_signed
from tests.support.images import EMPTY, described, image, push_image, quick
from tests.support.registries import Distribution, Olareg

TITLE = "mirror"
_MIB = 1024 * 1024
_PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def run(bench: Bench) -> list[Row]:
    """Small images, large blobs, nothing new."""
    return [_small(bench), _large(bench), _again(bench)]


class _Pair:
    """Two registries that do not know each other; the second is emptied between measurements."""

    def __init__(self, bench: Bench, kind: type[Olareg | Distribution] = Distribution) -> None:
        self.bench = bench
        self.near = bench.olareg
        self.registry = kind(binary(kind.server), bench.fresh("far"))
        self.registry.start()
        bench.stack.callback(self.registry.stop)
        self._names = (f"far{number}" for number in itertools.count())

    def fresh(self) -> str:
        """HOST/NAME that nobody has, on an empty disk."""
        self.registry.stop()
        shutil.rmtree(self.registry.directory / "storage", ignore_errors=True)
        (self.registry.directory / "storage").mkdir()
        self.registry.start()
        return f"{self.registry.host}/{next(self._names)}"


def _small(bench: Bench) -> Row:
    count = bench.options.sizes(100)[0]
    pair = _Pair(bench)
    source = bench.repository()
    with open_store(source, quick()) as store:
        for number in range(count):
            push_image(store, f"1.{number}.0", random.Random(number).randbytes(4096))
    row = Row("mirror-small", f"{TITLE}, {count} images of 4 KiB, olareg → distribution")
    each, whole = row.line("skopeo copy --all, one after the other"), row.line("skopeo sync --all")
    ours = row.line("ocisync mirror copy --tag '*'", anchor=each.name, goal="≥ 1 / 1.0 ×")
    against = row.line("ocisync, against one skopeo", anchor=whole.name)

    def once(_number: int) -> None:
        to = pair.fresh()
        total: Sample | None = None
        for number in range(count):
            tag = f"1.{number}.0"
            sample = _skopeo(bench, "copy", "--all", *_PLAIN, f"docker://{source}:{tag}", f"docker://{to}:{tag}")
            total = sample if total is None else total + sample
        assert total is not None
        each.samples.append(total)
        whole.samples.append(
            _skopeo(bench, "sync", "--all", *_PLAIN, "--src", "docker", "--dest", "docker", source, pair.fresh())
        )
        sample, answer = _mirror(bench, source, pair.fresh(), "--tag", "*")
        assert answer["moved"]["tags"] == count, answer
        ours.samples.append(sample)
        against.samples.append(sample)

    bench.repeat(once)
    return row


def _large(bench: Bench) -> Row:
    size = _MIB if bench.options.quick else 512 * _MIB
    pair = _Pair(bench)
    source = bench.repository()
    with open_store(source, quick()) as store:
        store.put_blob(EMPTY, b"{}")
        layers = []
        for seed in range(2):
            path = bench.folder("large") / f"{seed}"
            path.write_bytes(b"".join(random.Random(f"{seed}{at}").randbytes(_MIB) for at in range(size // _MIB)))
            layer = described(path.read_bytes())
            with path.open("rb") as file:
                store.put_blob(layer, file)
            path.unlink()
            layers.append(layer)
        store.put_manifest(image(*layers), OCI_MANIFEST, "1.0.0")
    row = Row("mirror-large", f"{TITLE}, 2 blobs of {size // _MIB} MiB, olareg → distribution")
    theirs = row.line("skopeo copy --all")
    ours = row.line("ocisync mirror copy", anchor=theirs.name, goal="≤ 1.25 × (0.8 of the speed), ≤ 150 MiB")

    def once(_number: int) -> None:
        theirs.samples.append(
            _skopeo(bench, "copy", "--all", *_PLAIN, f"docker://{source}:1.0.0", f"docker://{pair.fresh()}:1.0.0")
        )
        sample, answer = _mirror(bench, f"{source}:1.0.0", pair.fresh())
        assert answer["moved"]["bytes"] == 2 * size + EMPTY.size, answer
        ours.samples.append(sample)

    bench.repeat(once)
    return row


def _again(bench: Bench) -> Row:
    count = bench.options.sizes(100)[0]
    row = Row(
        "mirror-again", f"{TITLE}, a second copy of {count} artifacts with signatures of both forms and provenance"
    )
    source = bench.repository()
    key = generate()
    with open_store(source, quick()) as store:
        for number in range(count):
            push_signed(store, number, key)
    for kind, name in ((Distribution, "distribution"), (Olareg, "olareg")):
        pair = _Pair(bench, kind)
        to = pair.fresh()
        _mirror(bench, source, to, "--tag", "*")
        start = row.line(f"ocisync mirror copy of 1, olareg → {name}")
        line = row.line(f"ocisync mirror copy of {count}, olareg → {name}", anchor=start.name)

        def once(_number: int, start: Line = start, line: Line = line, to: str = to) -> None:
            start.samples.append(_mirror(bench, f"{source}:1.0.0", to)[0])
            sample, answer = _mirror(bench, source, to, "--tag", "*")
            assert not any(answer["moved"].values()), answer
            line.samples.append(sample)

        bench.repeat(once)
        spent = line.median_s() - start.median_s()
        if spent > 0:
            row.notes.append(
                f"olareg → {name}: {(count - 1) / spent:.0f} artifacts a second (goal: 200), which are"
                f" {5 * (count - 1) / spent:.0f} manifests a second."
            )
    return row


def _skopeo(bench: Bench, *arguments: str) -> Sample:
    program = binary("skopeo")
    environment = {**bench.environment, "LD_LIBRARY_PATH": build.library_path(program)}
    return measure.command([str(program), "--insecure-policy", *arguments], bench.home, environment)[0]


def _mirror(bench: Bench, source: str, to: str, *flags: str) -> tuple[Sample, dict[str, dict[str, int]]]:
    command = [str(bench.installed.ocisync), "mirror", "copy", source, to, *flags, "-q", "-o", "json"]
    sample, answer = measure.command(command, bench.home, bench.environment)
    return sample, json.loads(answer)
