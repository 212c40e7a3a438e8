"""A small Kubernetes API server on a loopback port, in memory.

It serves discovery (legacy and aggregated v2), CRUD, list and watch, server-side apply with managed fields, dry-run,
JSON, merge and strategic merge patch, status and scale subresources, `PartialObjectMetadata`, custom resources from
CRDs, owner references, finalizers, terminating namespaces, preconditions, label and field selectors, Status errors; for
the built-in kinds of `kinds.py`. `controllers.py` makes workloads Ready. Plain HTTP; who asks is recorded
(`Impersonate-User`, `User-Agent`), never refused.

**It is not Kubernetes.** It lacks: authentication, authorization and RBAC, admission (webhooks and policies are
stored, not called), CEL rules of CRDs, protobuf (so `kubectl create deployment`; `-f FILE` works), YAML bodies,
`Table` output, TLS, priority and fairness, quotas and limits, scheduling, kubelets (logs, exec), conversion webhooks,
aggregation, older versions of built-in kinds, PVC and PV protection, annotations written through `status`,
persistence. A page of a list after the first shows the present, not the past. An Event's managed fields are those of
its `v1` face. What it has is held to the real server's behaviour by contract tests that run on both. Claims about
Kubernetes rest on the real server only.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ocisync.sandbox import apierrors, discovery, views, watch
from ocisync.sandbox.apierrors import ApiError
from ocisync.sandbox.asked import deletion_of, options_of, scale_of, verb_of
from ocisync.sandbox.controllers import Controllers
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.garbage import Garbage
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.ownership import APPLY, UPDATE
from ocisync.sandbox.requestlog import RequestLog
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import Store, Stored, dump
from ocisync.sandbox.successors import APPLY_PATCH, patched
from ocisync.sandbox.writes import Deletion, Options, Outcome, Writer

MAX_BODY: Final = 3 * 1024 * 1024  # bytes, as the real server
FIRST_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
JSON_TYPE: Final = "application/json"
SETTLE_STEP_S: Final = 0.005
SETTLED_LOOKS: Final = 3


def utc_now() -> datetime:
    """Return the wall clock; the sandbox is a program of its own, so it reads its own clock."""
    return datetime.now(tz=UTC)


class ApiServer:
    """The API service and its server."""

    def __init__(self, *, port: int = 0, controllers: bool = True, clock: Callable[[], datetime] = utc_now) -> None:
        """Prepare an empty cluster; nothing listens until `start`."""
        self.requests = RequestLog()
        self.faults = Faults()
        self._clock = clock
        self.store = Store()
        self.writer = Writer(self.store, self._now)
        self.garbage = Garbage(self.writer)
        self.controllers = Controllers(self.writer, enabled=controllers)
        self._server = HttpServer(self._serve, port=port, faults=self.faults, log=self.requests)
        self._run = 0
        self._workers_running = False
        self._seed()

    # -- life -------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.port}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.address}"

    def start(self) -> ApiServer:
        """Listen; after `stop`, on the same port and with what was there."""
        self._run += 1
        self._server.start()
        if not self._workers_running:
            self._workers_running = True
            self.garbage.worker.start()
            self.controllers.start()
        return self

    def stop(self) -> None:
        """Close the port and cut connections and watches, as an outage does; objects stay, controllers go on."""
        self._run += 1
        self._server.stop()
        self.store.wake()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self.garbage.worker.stop()
        self.controllers.stop()
        self._workers_running = False

    def reset(self) -> None:
        """Begin again with an empty cluster; open watches see their history gone."""
        with self.store.lock:
            self.garbage.clear()
            self.controllers.clear()
            self.store.clear()
            self.writer.catalog = type(self.writer.catalog)(self.writer.builtin)
        self.faults.clear()
        self.requests.clear()
        self._seed()

    def settle(self, timeout_s: float = 10.0) -> bool:
        """Wait until clean-up and controllers have nothing to do; False when they did not come to rest."""
        end = time.monotonic() + timeout_s
        workers = (self.garbage.worker, self.controllers.worker)
        quiet = 0
        while quiet < SETTLED_LOOKS:  # each may hand work to the other between two looks
            if time.monotonic() > end:
                return False
            quiet = quiet + 1 if all(worker.idle for worker in workers) else 0
            time.sleep(SETTLE_STEP_S)
        return True

    def forget_history(self) -> None:
        """Drop the watch history of every kind, as a compaction does: watches from older revisions get 410."""
        with self.store.lock:
            for table in self.store.tables():
                table.forget()
                table.oldest = self.store.revision
                table.changed.notify_all()

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for this server."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url}}],
            "users": [{"name": "sandbox", "user": {}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}.{os.getpid()}")
        whole.write_text(json.dumps(config, indent=2) + "\n")
        whole.replace(path)  # whoever waits for the file never reads half of it
        return path

    def __enter__(self) -> ApiServer:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop for good."""
        self.close()

    def _now(self) -> str:
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _seed(self) -> None:
        namespaces = self._find("", "v1", "namespaces")
        for name in FIRST_NAMESPACES:
            self.writer.create(namespaces, "", {"metadata": {"name": name}}, Options("kube-apiserver"))
        self.controllers.seed()

    # -- dispatch ---------------------------------------------------------------------------------

    def _serve(self, request: Request, reply: Reply) -> None:
        try:
            self._dispatch(request, reply)
        except ApiError as error:
            if reply.sent:
                raise
            if error.plain:
                reply.send(error.code, error.message.encode(), {"Content-Type": "text/plain; charset=utf-8"})
            else:
                _json(reply, error.code, error.status())

    def _dispatch(self, request: Request, reply: Reply) -> None:
        parts = [unquote(part) for part in request.raw_path.split("/") if part]
        request.labels["user"] = request.header("impersonate-user")
        if not parts or parts[0] not in ("api", "apis"):
            self._meta(request, reply)
            return
        if parts[0] == "api":
            group, rest = "", parts[1:]
        else:
            group, rest = (parts[1] if len(parts) > 1 else ""), parts[2:]
        if len(rest) <= 1:
            self._discover(parts[0], group, rest[0] if rest else "", request, reply)
            return
        self._object(group, rest[0], rest[1:], request, reply)

    def _meta(self, request: Request, reply: Reply) -> None:
        path = request.path
        if path in ("/healthz", "/livez", "/readyz"):
            reply.send(200, b"ok", {"Content-Type": "text/plain; charset=utf-8"})
        elif path == "/version":
            _json(reply, 200, discovery.VERSION)
        elif path == "/_sandbox/requests":
            _json(reply, 200, self.requests.snapshot())
        elif path == "/openapi/v3":
            _json(reply, 200, discovery.openapi_index(self.writer.catalog))
        elif path == "/openapi/v2":
            # An empty protobuf document. kubectl asks for it about kinds that are not served, and then says so itself.
            content_type = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
            reply.send(200, b"", {"Content-Type": content_type})
        elif path.startswith("/openapi/v3/"):
            document = discovery.openapi_document(self.writer.catalog, path.removeprefix("/openapi/v3/"))
            if document is None:
                raise apierrors.no_such_path()
            _json(reply, 200, document)
        elif path == "/":
            _json(reply, 200, {"paths": ["/api", "/apis", "/healthz", "/version"]})
        else:
            raise apierrors.no_such_path()

    def _discover(self, root: str, group: str, version: str, request: Request, reply: Reply) -> None:
        request.labels["verb"] = "discovery"
        catalog = self.writer.catalog
        if not group and not version:
            if discovery.wants_aggregated(request.header("accept")):
                body, content_type = discovery.aggregated(catalog, core=root == "api")
                reply.send(200, body, {"Content-Type": content_type})
                return
            _json(reply, 200, discovery.core_versions(self.address) if root == "api" else discovery.group_list(catalog))
            return
        found = discovery.resource_list(catalog, group, version) if version else discovery.group(catalog, group)
        if found is None:
            raise apierrors.no_such_path()
        _json(reply, 200, found)

    def _find(self, group: str, version: str, plural: str) -> Resource:
        found = self.writer.catalog.find(group, version, plural)
        if found is None:
            if any((item.group, item.version) == (group, version) for item in self.writer.builtin):
                raise apierrors.no_such_resource()
            raise apierrors.no_such_path()
        return found

    def _object(self, group: str, version: str, rest: list[str], request: Request, reply: Reply) -> None:
        namespace = ""
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        if self._review(group, version, namespace, rest, request, reply):
            return
        resource = self._find(group, version, rest[0])
        if len(rest) > 3 or (namespace and not resource.namespaced):
            raise apierrors.no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if name and resource.namespaced and not namespace:
            raise apierrors.no_such_path()
        labels = request.labels
        labels["resource"] = resource.qualified + (f"/{subresource}" if subresource else "")
        labels["namespace"], labels["name"] = namespace, name
        labels["verb"] = verb_of(request, name)
        if subresource:
            self._subresource(resource, namespace, name, subresource, request, reply)
        elif not name:
            self._collection(resource, namespace, request, reply)
        else:
            self._single(resource, namespace, name, request, reply)

    # -- collections ------------------------------------------------------------------------------

    def _collection(self, resource: Resource, namespace: str, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            table = self.store.table(resource.table)
            if request.flag("watch"):
                self._watch(resource, namespace, request, reply)
                return
            body = watch.list_objects(self.store, table, resource, namespace, request)
            reply.send(200, body, {"Content-Type": JSON_TYPE})
        elif request.method == "POST":
            if resource.namespaced and not namespace:
                raise apierrors.no_such_path()
            body = self._read(request)
            options = options_of(request)
            self._answer(resource, request, reply, self._create(resource, namespace, body, options))
        elif request.method == "DELETE":
            self._delete_collection(resource, namespace, request, reply)
        else:
            raise _not_allowed()

    def _create(self, resource: Resource, namespace: str, body: Json, options: Options) -> Outcome:
        if views.is_new_event(resource):
            body, resource = views.event_to_core(body), self._find("", "v1", "events")
        return self.writer.create(resource, namespace, body, options)

    def _watch(self, resource: Resource, namespace: str, request: Request, reply: Reply) -> None:
        run = self._run
        wanted = watch.selection(resource, namespace, request)
        table = self.store.table(resource.table)
        watch.Watch(self.store, table, resource, wanted, request, lambda: self._run == run).serve(reply)

    def _delete_collection(self, resource: Resource, namespace: str, request: Request, reply: Reply) -> None:
        wanted = watch.selection(resource, namespace, request)
        deletion = deletion_of(request, self._read(request, optional=True))
        with self.store.lock:
            doomed = [stored for stored in self.store.table(resource.table).objects.values() if wanted.matches(stored)]
            for stored in doomed:
                metadata = stored.value["metadata"]
                self.writer.delete(resource, metadata.get("namespace", ""), metadata["name"], deletion)
            metadata = {"resourceVersion": str(self.store.revision)}
        body = views.list_body(resource, doomed, request.header("accept"), metadata)
        reply.send(200, body, {"Content-Type": JSON_TYPE})

    # -- single objects ---------------------------------------------------------------------------

    def _single(self, resource: Resource, namespace: str, name: str, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            if request.flag("watch"):
                request.query["fieldSelector"] = [f"metadata.name={name}"]
                self._watch(resource, namespace, request, reply)
                return
            self._show(resource, self.writer.get(resource, namespace, name), 200, request, reply)
        elif request.method == "PUT":
            body, options = self._read(request), options_of(request)
            core = self._core(resource)
            body = views.event_to_core(body) if core is not resource else body
            self._answer(resource, request, reply, self.writer.replace(core, namespace, name, body, options))
        elif request.method == "PATCH":
            self._answer(resource, request, reply, self._patch(resource, namespace, name, "", request))
        elif request.method == "DELETE":
            deletion = deletion_of(request, self._read(request, optional=True))
            outcome = self.writer.delete(resource, namespace, name, deletion)
            self._answer_deletion(resource, outcome, request, reply)
        else:
            raise _not_allowed()

    def _core(self, resource: Resource) -> Resource:
        return self._find("", "v1", "events") if views.is_new_event(resource) else resource

    def _patch(self, resource: Resource, namespace: str, name: str, subresource: str, request: Request) -> Outcome:
        media_type = request.header("content-type").partition(";")[0].strip()
        body, options = self._read(request), options_of(request)
        core = self._core(resource)
        if core is not resource:
            body = views.event_to_core(body) if isinstance(body, dict) else body
        if media_type == APPLY_PATCH:
            if not request.param("fieldManager"):
                causes = [apierrors.required("fieldManager", "is required for apply patch")]
                raise apierrors.invalid("meta.k8s.io", "PatchOptions", "", causes)
            return self.writer.apply(core, namespace, name, body, options, subresource)
        if request.flag("force"):
            causes = [apierrors.forbidden_value("force", "may not be specified for non-apply patch")]
            raise apierrors.invalid("meta.k8s.io", "PatchOptions", "", causes)
        return self.writer.patch(core, namespace, name, media_type, body, options, subresource)

    def _answer(self, resource: Resource, request: Request, reply: Reply, outcome: Outcome) -> None:
        headers = {"Content-Type": JSON_TYPE}
        if outcome.warnings:
            quoted = (json.dumps(text, ensure_ascii=False) for text in outcome.warnings)
            headers["Warning"] = ", ".join(f"299 - {text}" for text in quoted)
        body = views.view(resource, request.header("accept"))(outcome.stored)
        reply.send(201 if outcome.created else 200, body, headers)

    def _answer_deletion(self, resource: Resource, outcome: Outcome, request: Request, reply: Reply) -> None:
        if not outcome.erased:
            self._show(resource, outcome.stored, 200, request, reply)
            return
        details = {"name": outcome.stored.value["metadata"]["name"], "kind": resource.plural, "uid": outcome.stored.uid}
        if resource.group:
            details["group"] = resource.group
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        _json(reply, 200, status)

    def _show(self, resource: Resource, stored: Stored, status: int, request: Request, reply: Reply) -> None:
        body = views.view(resource, request.header("accept"))(stored)
        reply.send(status, body, {"Content-Type": JSON_TYPE})

    # -- subresources -----------------------------------------------------------------------------

    def _subresource(
        self, resource: Resource, namespace: str, name: str, subresource: str, request: Request, reply: Reply
    ) -> None:
        if subresource == "status" and resource.status:
            self._status(resource, namespace, name, request, reply)
        elif subresource == "scale" and resource.scale:
            self._scale(resource, namespace, name, request, reply)
        elif subresource == "token" and resource.table == ("", "serviceaccounts") and request.method == "POST":
            self.writer.get(resource, namespace, name)
            _json(reply, 201, self._token(namespace, name, self._read(request)))
        elif subresource == "eviction" and resource.table == ("", "pods") and request.method == "POST":
            self._read(request, optional=True)
            self.writer.delete(resource, namespace, name, Deletion())
            _json(reply, 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
        elif subresource == "finalize" and resource.table == ("", "namespaces") and request.method == "PUT":
            self._answer(
                resource,
                request,
                reply,
                self.writer.replace(resource, "", name, self._read(request), options_of(request)),
            )
        else:
            raise apierrors.no_such_path()

    def _status(self, resource: Resource, namespace: str, name: str, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            self._show(resource, self.writer.get(resource, namespace, name), 200, request, reply)
        elif request.method == "PUT":
            body, options = self._read(request), options_of(request)
            outcome = self.writer.replace(resource, namespace, name, body, options, "status")
            self._answer(resource, request, reply, outcome)
        elif request.method == "PATCH":
            self._answer(resource, request, reply, self._patch(resource, namespace, name, "status", request))
        else:
            raise _not_allowed()

    def _scale(self, resource: Resource, namespace: str, name: str, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            _json(reply, 200, scale_of(resource, self.writer.get(resource, namespace, name).value))
            return
        media_type = request.header("content-type").partition(";")[0].strip()
        body, options = self._read(request), options_of(request)
        with self.store.lock:
            stored = self.writer.get(resource, namespace, name)
            current = scale_of(resource, stored.value)
            if request.method == "PUT":
                wanted = body
            elif request.method == "PATCH":
                scale = self._find_scale(resource)
                wanted = body if media_type == APPLY_PATCH else patched(scale, current, media_type, body)
            else:
                raise _not_allowed()
            version = (wanted.get("metadata") or {}).get("resourceVersion")
            if version and version != stored.value["metadata"]["resourceVersion"]:
                raise apierrors.stale_version(resource.group, resource.plural, name)
            replicas = (wanted.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or replicas < 0:
                why = "must be greater than or equal to 0"
                raise apierrors.invalid(
                    "autoscaling", "Scale", name, [apierrors.invalid_value("spec.replicas", replicas, why)]
                )
            operation = APPLY if media_type == APPLY_PATCH else UPDATE
            outcome = self.writer.scale(resource, stored, replicas, options, operation)
        _json(reply, 200, scale_of(resource, outcome.stored.value))

    def _find_scale(self, resource: Resource) -> Resource:
        return resource

    def _token(self, namespace: str, name: str, body: Json) -> Json:
        lasts = int(((body.get("spec") or {}) if isinstance(body, dict) else {}).get("expirationSeconds") or 3600)
        expires = self._clock().astimezone(UTC) + timedelta(seconds=lasts)
        status = {
            "token": f"sandbox.{namespace}.{name}.{secrets.token_hex(8)}",
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        meta = {"name": name, "namespace": namespace}
        spec = {"audiences": ["sandbox"], "expirationSeconds": lasts}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": meta,
            "spec": spec,
            "status": status,
        }

    def _review(
        self, group: str, version: str, namespace: str, rest: list[str], request: Request, reply: Reply
    ) -> bool:
        """Answer access reviews: everything is allowed."""
        for owner, at, plural, kind, _ in discovery.REVIEWS:
            if (owner, at) == (group, version) and rest == [plural] and request.method == "POST":
                request.labels |= {"verb": "create", "resource": f"{plural}.{group}", "namespace": namespace}
                body = self._read(request)
                user = {"username": request.header("impersonate-user") or "system:admin", "groups": ["system:masters"]}
                status: Json = {"allowed": True, "reason": "the sandbox allows everything"}
                if group == "authentication.k8s.io":
                    status = (
                        {"userInfo": user} if kind == "SelfSubjectReview" else {"authenticated": True, "user": user}
                    )
                elif kind == "SelfSubjectRulesReview":
                    every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
                    status = {"resourceRules": [every], "nonResourceRules": [], "incomplete": False}
                made = {
                    "kind": kind,
                    "apiVersion": f"{group}/{version}",
                    "metadata": {},
                    "spec": body.get("spec") or {},
                }
                _json(reply, 201, made | {"status": status})
                return True
        return False

    # -- bodies -----------------------------------------------------------------------------------

    def _read(self, request: Request, *, optional: bool = False) -> Json:
        raw = request.body(MAX_BODY)
        if raw is None:
            text = f"Request entity too large: limit is {MAX_BODY}"
            raise ApiError("RequestEntityTooLarge", text)
        if not raw and optional:
            return {}
        if "protobuf" in request.header("content-type"):
            text = "the sandbox reads JSON, not protobuf: add --dry-run=client -o json | kubectl create -f -"
            raise ApiError("UnsupportedMediaType", text)
        try:
            return json.loads(raw)
        except ValueError as err:
            raise apierrors.bad_request(f"the body is not JSON (the sandbox reads no YAML): {err}") from err


def _not_allowed() -> ApiError:
    return ApiError("MethodNotAllowed", "the server does not allow this method on the requested resource", details={})


def _json(reply: Reply, status: int, body: Json) -> None:
    reply.send(status, dump(body), {"Content-Type": JSON_TYPE})
