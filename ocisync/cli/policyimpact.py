"""`ocisync policy impact`: which syncs and digests would lose trust if a key, an authority or a policy changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options, output_option, registry_options
from ocisync.cli.trustflags import root_reader
from ocisync.model.errors import ExitCode, InvalidInput, NotFound, OcisyncError, UsageError
from ocisync.model.limits import MIB
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SelectorKind

if TYPE_CHECKING:
    from ocisync.flows.impact import Impact, Kept, Running
    from ocisync.flows.trust import TrustSet

POLICY_FILE_BYTES = 1 * MIB
_LIST_BYTES = 16 * MIB
_EVIDENCE_BYTES = 256 * MIB
_MESSAGE_CHARS = 100


def _files(*names: str, help_text: str, multiple: bool = False) -> Callable[[Any], Any]:
    return click.option(*names, type=click.Path(path_type=Path), multiple=multiple, help=help_text)


@click.command("impact")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--without-key", "keys", multiple=True, metavar="FINGERPRINT", help="As if this key were in no policy.")
@click.option("--without-authority", "authorities", multiple=True, metavar="NAME", help="As if nobody had this name.")
@click.option("--deny-key", "denied", multiple=True, metavar="FINGERPRINT", help="As if this key were on deny lists.")
@_files("--against", multiple=True, help_text="As if these policies were in force instead; repeatable.")
@click.option(
    "--reference", "references", multiple=True, metavar="REF", help="Judge this instead of a cluster's syncs."
)
@_files("--references", "reference_file", help_text="File with one reference a line.")
@_files("--syncs", "sync_file", help_text="File with syncs, as `kubectl get artifactsyncs -A -o yaml` prints them.")
@_files("--evidence", "evidence_file", help_text="Saved evidence: no registry is asked.")
@_files("--save-evidence", "save_to", help_text="Write the evidence that was read, to ask again offline.")
@_files("--trusted-root", "root", help_text="What every trustedRootRef of the policies means.")
@click.option(
    "--agent-namespace", default="ocisync-system", show_default=True, help="Where Secrets of policies are read."
)
@cluster_options
@output_option("text", "json", "yaml")
@registry_options
@common_options
def impact(
    files: tuple[Path, ...],
    references: tuple[str, ...],
    reference_file: Path | None,
    sync_file: Path | None,
    evidence_file: Path | None,
    save_to: Path | None,
    kubeconfig: Path | None,
    context: str,
    form: str,
    quiet: bool,
    **rest: Any,
) -> int:
    """List what would lose trust if a key, an authority or a policy changed.

    FILE… are the policies in force. What runs is read from the cluster of the kubeconfig, or named by --syncs or
    --reference; its evidence comes from the registry, or from a file. Each running digest is judged twice, by the
    function that decides in the agent. Nothing is changed.

    \b
    Examples:
      ocisync policy impact policy.yaml --without-authority ci
      ocisync policy impact policy.yaml --deny-key sha256:… --syncs syncs.yaml -o json
      ocisync policy impact policy.yaml --against new.yaml --reference oci://registry.example/shop:production
      ocisync policy impact policy.yaml --without-key sha256:… --save-evidence evidence.json

    \b
    Exit codes: 0 nothing loses trust · 1 something could not be judged · 2 usage · 3 something loses trust
      5 no such file, key or authority
    """
    from ocisync.flows import impact as flow

    changes = {name: rest.pop(name) for name in ("keys", "authorities", "denied", "against")}
    if not any(changes.values()):
        raise UsageError("nothing would change", hint="--without-key, --without-authority, --deny-key or --against")
    root = rest.pop("root")
    keys = _Secrets(kubeconfig, context, rest.pop("agent_namespace"))
    before = _trust(files, root, keys)
    after = _trust(changes["against"], root, keys) if changes["against"] else before
    after = flow.denying(flow.without(after, changes["keys"], changes["authorities"]), changes["denied"])
    source = _Sources(evidence_file, rest)
    running, idle = _running(references, reference_file, sync_file, kubeconfig, context, source)
    now = SystemClock().now()
    found = []
    with output.progress("Judging", quiet=quiet) as step:
        for one in running:
            step(one.name)
            found.append(_judge(one, source, before, after, now))
    if save_to is not None:
        from ocisync.kit import atomic

        atomic.write_bytes(save_to, flow.save(source.kept.values()))
    stuck = tuple(name for name in flow.unreachable(after) if name not in flow.unreachable(before))
    output.emit(flow.as_json(found, stuck), form, text=lambda: _text(found, stuck))
    if form == "text" and not quiet:
        _notes(found, idle)
    return int(_exit_code(found))


def _trust(files: tuple[Path, ...], root: Path | None, secrets: _Secrets) -> TrustSet:
    from ocisync.flows import trust
    from ocisync.flows.policyfiles import PolicyFile, read_policies

    documents = [
        document.value
        for path in files
        for document in read_policies(PolicyFile(str(path), read_file(path, POLICY_FILE_BYTES)))
    ]
    read_root = root_reader(root) if root is not None else trust.no_roots
    loaded = trust.load_policies(documents, secrets.read, read_root)
    for name, problem in loaded.unusable.items():
        output.warning_text(f"policy {name} is not usable and refuses what it matches: {problem}")
    return loaded


class _Secrets:
    """The Secrets that policies name, as whoever runs the command may see them."""

    def __init__(self, kubeconfig: Path | None, context: str, namespace: str) -> None:
        self._kubeconfig, self._context, self._namespace = kubeconfig, context, namespace

    def read(self, name: str) -> Mapping[str, bytes] | None:
        """The data of a Secret; None if there is none; raises InvalidInput if it cannot be read."""
        from ocisync.cli.syncs import Syncs

        try:
            return Syncs(self._kubeconfig, self._context).secret(self._namespace, name)
        except OcisyncError as error:
            message = f"secretRef {name!r}: {error.message}"
            raise InvalidInput(message, hint="a policy with key.pem needs no cluster") from None


def _judge(one: Running, source: _Sources, before: TrustSet, after: TrustSet, now: Any) -> Impact:
    from ocisync.flows import impact as flow

    kept, problem = None, ""
    if any(trust.select(one.repository).matched for trust in (before, after)):
        try:
            kept = source.get(one.repository, one.digest)
        except OcisyncError as error:
            problem = error.message
    if problem:
        return flow.Impact(one, flow.Change.UNKNOWN, problem=problem)
    return flow.assess(one, kept, before, after, now)


class _Sources:
    """Evidence by repository and digest: from a file, or read once from the registry."""

    def __init__(self, file: Path | None, registry: Mapping[str, Any]) -> None:
        self._registry = registry
        self._offline = file is not None
        self.kept: dict[tuple[str, str], Kept] = {}
        if file is not None:
            from ocisync.flows import impact as flow

            for one in flow.load(read_file(file, _EVIDENCE_BYTES), str(file)):
                self.kept[one.repository, one.digest] = one

    def get(self, repository: str, digest: str) -> Kept:
        """Evidence for a digest; raises an OcisyncError if there is none."""
        from ocisync.cli.registry import open_registry
        from ocisync.flows import impact as flow
        from ocisync.model.ref import parse_reference

        key = repository, digest
        if key not in self.kept:
            if self._offline:
                raise NotFound(f"the saved evidence has nothing for {repository}@{digest}")
            with open_registry(parse_reference(repository), **self._registry) as store:
                self.kept[key] = flow.gather(store, digest)
        return self.kept[key]

    def resolve(self, text: str) -> Running:
        """What a typed reference leads to now."""
        from ocisync.cli.registry import open_registry
        from ocisync.flows.impact import Running
        from ocisync.model.ref import parse_reference

        reference = parse_reference(text)
        if not reference.tag and not reference.digest:
            raise UsageError(f"{text} names neither a tag nor a digest", hint=f"{text}:TAG")
        digest = reference.digest
        if not digest:
            if self._offline:
                raise UsageError(f"{text}: with saved evidence, name the digest", hint=f"{text}@sha256:…")
            with open_registry(reference, **self._registry) as store:
                found = store.resolve(reference.tag)
            if found is None:
                raise NotFound(f"{reference.repository} has no tag {reference.tag!r}")
            digest = found.digest
        kind = SelectorKind.TAG if reference.tag else SelectorKind.DIGEST
        return Running(text.removeprefix("oci://"), reference.repository, digest, kind, reference.tag)


def _running(
    references: tuple[str, ...],
    reference_file: Path | None,
    sync_file: Path | None,
    kubeconfig: Path | None,
    context: str,
    source: _Sources,
) -> tuple[list[Running], list[str]]:
    """What to judge, and the syncs that run nothing yet."""
    from ocisync.flows import impact as flow

    typed = list(references)
    if reference_file is not None:
        lines = read_file(reference_file, _LIST_BYTES).decode(errors="replace").splitlines()
        typed += [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    found = [source.resolve(text) for text in typed]
    if sync_file is not None:
        syncs: Iterable[JsonObject] = _syncs_in(sync_file)
    elif typed or reference_file is not None:
        syncs = ()
    else:
        from ocisync.cli.syncs import Syncs

        syncs = Syncs(kubeconfig, context).all()
    idle = []
    for sync in syncs:
        one = flow.running_of(sync)
        if one is None:
            idle.append(f"{sync['metadata'].get('namespace') or 'default'}/{sync['metadata'].get('name')}")
        else:
            found.append(one)
    return found, idle


def _syncs_in(path: Path) -> list[JsonObject]:
    from ocisync.kit import yamlio

    found: list[JsonObject] = []
    for document in yamlio.parse_documents(read_file(path, _LIST_BYTES), str(path), max_bytes=_LIST_BYTES):
        value = document.value
        listed = value.get("items") if isinstance(value, dict) else None
        items = listed if isinstance(listed, list) else [value]
        found += [
            item
            for item in items
            if isinstance(item, dict) and item.get("kind") == "ArtifactSync" and isinstance(item.get("metadata"), dict)
        ]
    if not found:
        raise InvalidInput(f"{path} holds no ArtifactSync", hint="kubectl get artifactsyncs -A -o yaml")
    return found


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        NotFound, InvalidInput: no such file, or it is far too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise InvalidInput(f"{path} is larger than {limit >> 20} MiB")
    return data


def _text(found: list[Impact], stuck: tuple[str, ...]) -> str:
    rows: list[tuple[str, ...]] = []
    for one in found:
        reason = one.problem or (one.after.reason.value if one.after else "")
        message = one.after.message if one.after and not one.after.allowed else ""
        rows.append((one.change.value, one.running.name, one.running.digest[:19], reason, _short(message)))
    lines = (
        [output.plain(output.table(rows, ("CHANGE", "SYNC", "DIGEST", "AFTER", "BECAUSE")))]
        if rows
        else ["nothing runs"]
    )
    lines += [f"policy {name} can then be satisfied by nothing: too few authorities are left" for name in stuck]
    return "\n".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARS else text[: _MESSAGE_CHARS - 1] + "…"


def _notes(found: list[Impact], idle: list[str]) -> None:
    from ocisync.flows.impact import Change

    loses = [one for one in found if one.change is Change.LOSES]
    output.note(f"{len(found)} digests judged, {len(loses)} would lose trust")
    if idle:
        output.note(f"nothing applied yet: {', '.join(idle[:8])}{' …' if len(idle) > 8 else ''}")
    if loses:
        one = loses[0].running
        name = f"{one.repository}@{one.digest}"
        tag = f" --tag {one.tag}" if one.tag else ""
        output.hint_text(f"sign them by another authority first: ocisync sign oci://{name}{tag} --sign-key KEY")


def _exit_code(found: list[Impact]) -> ExitCode:
    from ocisync.flows.impact import Change

    changes = {one.change for one in found}
    if Change.LOSES in changes:
        return ExitCode.DIFFERENCES
    return ExitCode.FAILED if Change.UNKNOWN in changes else ExitCode.OK
