"""`ocisync install`: everything the agent needs, printed as ordered YAML or applied."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from ocisync import __version__
from ocisync.cli import output
from ocisync.cli.options import cluster_options, common_options
from ocisync.install import bundle
from ocisync.install.rbac import Access
from ocisync.install.workload import Workload
from ocisync.model.errors import UsageError
from ocisync.model.resource import JsonObject, id_of

_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}\Z")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


def _accounts(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _ACCOUNT.match(value):
            raise click.BadParameter(f"{value!r} is not NAMESPACE/SERVICEACCOUNT")
    return values


@click.command("install")
@click.option("-n", "--namespace", default="ocisync-system", show_default=True, help="Namespace of the agent.")
@click.option("--image", default="", help="The agent's image, pinned by digest (required unless --crds-only).")
@click.option(
    "--impersonate",
    multiple=True,
    metavar="NAMESPACE/ACCOUNT",
    callback=_accounts,
    help="A service account that syncs apply as; repeat for each.",
)
@click.option(
    "--watch-kinds", multiple=True, metavar="RESOURCE[.GROUP]", help="Read only these (repeat), as in deployments.apps."
)
@click.option("--no-secret-watch", is_flag=True, help="Do not read Secrets outside the agent's namespace.")
@click.option("--cluster-admin", is_flag=True, help="Let the agent do anything: for a cluster with one team.")
@click.option(
    "--cache-claim", default="", metavar="PVC", help="Keep the local copy of artifacts in this claim, across pods."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 5),
    default=1,
    show_default=True,
    help="One works, the others stand by and take over when its lease ends.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning"]),
    default="info",
    show_default=True,
    help="Agent's log level.",
)
@click.option("--crds-only", is_flag=True, help="Only the custom resource definitions.")
@click.option("--apply", "apply_now", is_flag=True, help="Apply it to the cluster instead of printing it.")
@cluster_options
@common_options
def command(
    namespace: str,
    image: str,
    impersonate: tuple[str, ...],
    watch_kinds: tuple[str, ...],
    no_secret_watch: bool,
    cluster_admin: bool,
    cache_claim: str,
    replicas: int,
    log_level: str,
    crds_only: bool,
    apply_now: bool,
    kubeconfig: Path | None,
    context: str,
    quiet: bool,
) -> None:
    """Print everything the agent needs in a cluster as ordered YAML, or apply it.

    The agent reads what it keeps equal and writes only as the service accounts named with --impersonate.
    Trust policies are written by holders of the role ocisync-policy-admin, which nothing grants by itself.

    \b
    Examples:
      ocisync install --image registry.example/ocisync@sha256:… --impersonate shop/shop-deployer > agent.yaml
      ocisync install --image registry.example/ocisync@sha256:… --impersonate shop/shop-deployer --apply
      ocisync install --crds-only | kubectl apply --server-side -f -
    """
    if not _DNS_LABEL.match(namespace):
        raise UsageError(f"--namespace {namespace!r} is not a namespace name")
    if not crds_only and not _PINNED.match(image):
        raise UsageError(
            f"--image {image!r} is not pinned by digest" if image else "no --image given",
            hint="name the image as HOST/REPOSITORY@sha256:DIGEST, or ask for --crds-only",
        )
    access = Access(
        watch_kinds=watch_kinds, read_secrets=not no_secret_watch, impersonate=impersonate, cluster_admin=cluster_admin
    )
    spec = Workload(image=image, namespace=namespace, log_level=log_level, cache_claim=cache_claim, replicas=replicas)
    objects = bundle.definitions() if crds_only else bundle.installation(spec, access)
    if not apply_now:
        from ocisync.kit import yamlio

        output.write("".join(f"---\n{yamlio.dump(item)}" for item in objects), newline=False)
        return
    _apply(objects, kubeconfig, context, quiet=quiet)


def _apply(objects: list[JsonObject], kubeconfig: Path | None, context: str, *, quiet: bool) -> None:
    from ocisync.cluster import bootstrap, client

    cluster = client.connect(
        str(kubeconfig) if kubeconfig else None, context or None, user_agent=f"ocisync/{__version__}"
    )
    for item, change in bootstrap.apply_in_order(cluster, objects, time.sleep):
        if not quiet:
            output.note(f"{id_of(item)} {change}")
