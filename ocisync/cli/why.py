"""`ocisync why`: which file, commit, signer and apply put a value there, and who changed it since."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options, output_option, registry_options
from ocisync.cli.places import open_place, place_of
from ocisync.cli.syncs import Syncs, agent_namespace_option, namespace_option
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import AccessDenied, ExitCode, InvalidInput, NotFound, OcisyncError, UsageError
from ocisync.model.ref import LAYOUT_SCHEME
from ocisync.model.resource import JsonObject, ObjectId

if TYPE_CHECKING:
    from ocisync.cluster.discovery import Discovery
    from ocisync.flows.drifthistory import Drifted
    from ocisync.flows.why import Known
    from ocisync.flows.whyanswer import Answer, Content, Owner

_CONTROLLERS = 5


@click.command("why")
@click.argument("what", metavar="KIND/NAME")
@click.argument("field", required=False, default="")
@namespace_option("Namespace of the object (default: the context's).")
@click.option(
    "--artifact",
    default="",
    metavar="REFERENCE",
    help="Read the artifact here, as oci-layout:DIR, not in its registry.",
)
@trust_options
@agent_namespace_option
@cluster_options
@output_option("text", "json", "yaml")
@registry_options
@common_options
def command(
    what: str,
    field: str,
    namespace: str,
    artifact: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    agent_namespace: str,
    kubeconfig: Path | None,
    context: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> int:
    """Say why an object, or a field of it, is as it is: file and line in Git, commit, signer, apply, changes since.

    FIELD is .spec.replicas, containers[name=app].image or /spec/template/spec/containers/0/image; the end of a path is
    enough if only one field fits. The artifact is read from its registry by the digest that was applied. Its signers
    are those that the agent named; with --key or --policy they are judged here. Values of Secrets are masked. Objects
    that `ocisync apply` has made are answered for, too, by what it recorded.

    \b
    Examples:
      ocisync why deployment/web -n shop
      ocisync why deployment/web .spec.replicas -n shop
      ocisync why deploy/web 'containers[name=app].image' -n shop --policy policy.yaml
      ocisync why configmap/settings data.colour -n shop -o json

    \b
    Exit codes:
      0 answered · 2 no such field, or not only one · 4 refused by the policy given · 5 no such object
      6, 7 answered but for what the registry did not let be read
    """
    reading = _Reading(Syncs(kubeconfig, context), agent_namespace)
    with output.progress("Reading", quiet=quiet) as step:
        live = reading.live(what, namespace)
        owner = reading.owner(live)
        content: Content | None = None
        problem: OcisyncError | None = None
        if owner is not None and reading.readable(owner, artifact):
            step("the artifact")
            try:
                content = _content(owner, artifact, key_files, policy_files, registry)
            except OcisyncError as error:
                if error.exit_code not in {ExitCode.NOT_FOUND, ExitCode.DENIED, ExitCode.TRY_AGAIN}:
                    raise
                problem = error
        step("what happened since")
        known = reading.known(live, owner, content, problem)
        answer = _answer(known, field)
    from ocisync.cli.whytext import render

    output.emit(answer.as_json(), form, text=lambda: "\n".join(render(answer)))
    if form == "text" and not quiet and answer.chain:
        top = answer.chain[-1]
        place = f" --namespace {top.namespace}" if top.namespace else ""
        output.hint_text(f"ocisync why {top.group_kind.lower()}/{top.name}{place}")
    return int(problem.exit_code) if problem is not None else int(ExitCode.OK)


def _content(
    owner: Owner, artifact: str, key_files: tuple[str, ...], policy_files: tuple[Path, ...], registry: dict[str, Any]
) -> Content:
    from ocisync.flows.why import read_content

    applied = owner.artifact()
    digest = str(applied.get("digest") or "")
    if owner.spec is None and owner.once is None:
        raise NotFound(f"sync {owner.key} has a spec that cannot be read")
    repository = owner.repository
    place = place_of(f"{artifact or repository}", repository if artifact.startswith("oci-layout:") else "")
    if place.digest not in {"", digest}:
        raise UsageError(f"--artifact {artifact}: applied is {digest}")
    trust = named_trust(key_files, policy_files, repository)
    with open_place(place, registry) as store:
        return read_content(store, digest, trust, SystemClock().now(), applied)


def _answer(known: Known, field: str) -> Answer:
    """Find the field and explain it.

    Raises:
        UsageError: there is no such field, or there are several.
    """
    from ocisync.cluster.fieldexpr import find, parse_field, path_of
    from ocisync.cluster.fields import render
    from ocisync.flows.why import explain, source_of

    if not field:
        return explain(known, None)
    steps = parse_field(field)
    found = find(known.live, steps)
    if not found:
        source = source_of(known)
        in_git = find(source.desired, steps) if source else ()
        if source and len(in_git) == 1:
            return explain(known, None, asked=path_of(source.desired, in_git[0], known.entries))
        raise UsageError(
            f"{known.object} has no field {field[:100]!r}, and Git names none",
            hint=f"ocisync why {known.object.kind.lower()}/{known.object.name} shows the object",
        )
    if len(found) > 1:
        names = [render(path_of(known.live, one, known.entries)) for one in found]
        raise UsageError(
            f"{field[:100]!r} is not one field of {known.object}: {'; '.join(names)}", hint="write more of it"
        )
    return explain(known, found[0])


class _Reading:
    """What the cluster has, as whoever runs the command may see it."""

    def __init__(self, syncs: Syncs, agent_namespace: str) -> None:
        from ocisync.cluster.discovery import Discovery

        self._syncs = syncs
        self._agent_namespace = agent_namespace
        self._discovery: Discovery = Discovery(syncs.cluster)
        self._problems: list[str] = []

    def live(self, what: str, namespace: str) -> JsonObject:
        """The object.

        Raises:
            UsageError, NotFound, AccessDenied, ClusterRefused: there is no such object, or it cannot be read.
        """
        from ocisync.cluster.kindnames import find_kind, split_name

        kind, name = split_name(what)
        resource = find_kind(kind, self._discovery.all_preferred())
        place = namespace or self._syncs.default_namespace
        try:
            return self._syncs.get(resource.path(place, name), f"{resource.kind} {name}")
        except NotFound as error:
            where = f" in namespace {place}" if resource.namespaced else ""
            hint = f"kubectl get {resource.plural}{' -A' if where else ''}"
            raise NotFound(f"there is no {resource.kind} {name}{where}", hint=hint) from error

    def owner(self, live: JsonObject) -> Owner | None:
        """The sync that owns the object, or the set of `ocisync apply`."""
        from ocisync.cluster.normalise import applyset_id
        from ocisync.flows.why import owner_of
        from ocisync.flows.whyanswer import Owner
        from ocisync.model.spec import PART_OF_LABEL, parse_sync

        metadata = live.get("metadata") or {}
        if PART_OF_LABEL not in (metadata.get("labels") or {}):
            return None
        denied: AccessDenied | None = None
        try:
            sync = owner_of(live, self._all_syncs(str(metadata.get("namespace") or "")))
        except AccessDenied as error:
            sync, denied = None, error
        if sync is None:
            found = self._set(live)
            if found is None and denied is not None:
                raise denied
            return found
        named = sync["metadata"]
        spec = None
        try:
            spec = parse_sync(sync)
        except InvalidInput as error:
            self._problems.append(f"the sync's spec cannot be read: {error.message}")
        sync_id = applyset_id(str(named["name"]), str(named["namespace"]))
        return Owner(f"{named['namespace']}/{named['name']}", sync_id, sync.get("status") or {}, spec)

    def _set(self, live: JsonObject) -> Owner | None:
        from ocisync.flows.setrecord import AppliedSet, read_set, set_id_of, set_of
        from ocisync.flows.whyanswer import Owner

        set_id = set_id_of(live)
        parent = set_of(self._parents(set_id, str(live["metadata"].get("namespace") or "")), set_id) if set_id else None
        if parent is None:
            return None
        try:
            found = read_set(self._syncs.cluster, parent)
        except OcisyncError as error:
            self._problems.append(f"what was applied: {error.message}")
            found = AppliedSet.of(parent)
        return Owner.of_set(found, set_id)

    def _parents(self, set_id: str, namespace: str) -> list[JsonObject]:
        """The ConfigMaps that say that they are the parent of this ApplySet."""
        for place in ("", namespace or self._syncs.default_namespace):
            with suppress(AccessDenied):
                return self._syncs.parents(set_id, place)
        self._problems.append("whether ocisync apply made it: ConfigMaps may not be listed")
        return []

    def readable(self, owner: Owner, artifact: str) -> bool:
        """Whether there is an artifact that can be looked for; if not, why not is noted."""
        once = owner.once
        if once is None:
            return bool(owner.artifact().get("digest"))
        record = once.record
        if owner.directory:
            self._problems.append("file and line: a directory was applied, and only whoever did it has it")
        elif record is None and not artifact:
            again = f"ocisync apply … --name {once.name} -n {once.namespace}"
            self._problems.append(f"file and line: nothing says what was applied as a whole; {again} writes it down")
        elif record is not None and record.source.startswith(LAYOUT_SCHEME) and not artifact:
            self._problems.append(f"file and line: {record.source} was applied: name it: --artifact oci-layout:DIR")
        else:
            return bool(owner.artifact().get("digest"))
        return False

    def _all_syncs(self, namespace: str) -> list[JsonObject]:
        try:
            return self._syncs.all()
        except AccessDenied:
            return self._syncs.all(namespace)
        except NotFound:
            return []  # ocisync is not installed here

    def known(
        self, live: JsonObject, owner: Owner | None, content: Content | None, problem: OcisyncError | None
    ) -> Known:
        """Everything together."""
        from ocisync.flows.why import Known

        drift = self._drift(owner.key) if owner is not None and owner.once is None else ()
        chain = self._chain(live) if owner is None else ()
        if problem is not None:
            self._problems.append(f"file and line: {problem.message}")
        return Known(live, owner, content, drift, chain, tuple(self._problems))

    def _drift(self, sync: str) -> tuple[Drifted, ...]:
        from ocisync.cluster.driftrecord import DriftRecords
        from ocisync.flows.drifthistory import recorded

        try:
            return tuple(recorded(DriftRecords(self._syncs.cluster, self._agent_namespace), sync, ""))
        except OcisyncError as error:
            self._problems.append(f"what was changed since: {error.message}")
            return ()

    def _chain(self, live: JsonObject) -> tuple[ObjectId, ...]:
        """The controllers above an object: a Pod's ReplicaSet, its Deployment."""
        chain: list[ObjectId] = []
        namespace = str((live.get("metadata") or {}).get("namespace") or "")
        while len(chain) < _CONTROLLERS:
            above = _controller(live)
            if above is None:
                break
            version = str(above.get("apiVersion") or "")
            group = version.rpartition("/")[0]
            one = ObjectId(group, str(above.get("kind")), namespace, str(above.get("name")))
            try:
                resource = self._discovery.resource(group, one.kind)
                live = self._syncs.get(resource.path(namespace, one.name), str(one))
            except OcisyncError:
                break
            chain.append(one if resource.namespaced else ObjectId(group, one.kind, "", one.name))
        return tuple(chain)


def _controller(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for item in (live.get("metadata") or {}).get("ownerReferences") or ():
        if isinstance(item, dict) and item.get("controller"):
            return item
    return None
