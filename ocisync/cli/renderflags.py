"""The flags that say what becomes of overlays and charts, and of images: for commands that read a directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ocisync.model.errors import UsageError
from ocisync.model.ref import Place, Reference

if TYPE_CHECKING:
    from ocisync.flows.images import PinOptions
    from ocisync.oci.store import Store
    from ocisync.render.layout import RenderOptions

_NAMES = ("render", "helm_values", "helm_release", "helm_namespace", "helm_api_versions")
_OWN = ("creds", "cert_file", "key_file", "plain_http")  # meant for the registry on the command line, and no other


def render_options(function: Any) -> Any:
    """Add --render and what charts need."""
    options = (
        click.option(
            "--render",
            type=click.Choice(["none", "kustomize", "helm", "auto"]),
            default="none",
            show_default=True,
            help="Make plain manifests of overlays and charts, with kustomize and helm from PATH.",
        ),
        click.option(
            "--helm-values",
            multiple=True,
            metavar="FILE",
            help="Committed file with values for every chart, relative to PATH; repeat for more.",
        ),
        click.option("--helm-release", default="", metavar="NAME", help="Name of the release (default: the chart's)."),
        click.option(
            "--helm-namespace", default="", metavar="NAMESPACE", help="Namespace of the release (default: default)."
        ),
        click.option(
            "--helm-api-version",
            "helm_api_versions",
            multiple=True,
            metavar="GROUP/VERSION",
            help="API that charts may count on besides Kubernetes' own; repeat for more.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def render_taken_from(flags: dict[str, Any], kubernetes_version: str = "") -> RenderOptions | None:
    """Take the values of these flags out of a command's arguments.

    Raises:
        UsageError: flags for charts, and no charts are rendered.
    """
    mode, values, release, namespace, api_versions = (flags.pop(name) for name in _NAMES)
    given = {"--helm-values": values, "--helm-release": release, "--helm-namespace": namespace}
    given["--helm-api-version"] = api_versions
    if mode not in ("helm", "auto"):
        for name, value in given.items():
            if value:
                raise UsageError(f"{name} says how to render charts, and none are", hint="add --render helm (or auto)")
    if mode == "none":
        return None
    from ocisync.render.layout import RenderOptions

    return RenderOptions(mode, values, release, namespace or "default", _full(kubernetes_version), api_versions)


def _full(version: str) -> str:
    """Helm wants three numbers."""
    return f"{version}.0" if version.count(".") == 1 else version


def pin_options(function: Any) -> Any:
    """Add --pin-images and --image-path."""
    options = (
        click.option(
            "--pin-images",
            is_flag=True,
            help="Write digests behind image tags, and list the images where imgpkg finds them.",
        ),
        click.option(
            "--image-path",
            "image_paths",
            multiple=True,
            metavar="KIND.GROUP=/POINTER",
            help="Image field of a custom kind; `*` stands for every item; repeat for more.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def pin_taken_from(flags: dict[str, Any], target: Place, registry: Mapping[str, Any]) -> PinOptions | None:
    """Take the values of these flags out of a command's arguments.

    Args:
        flags: of the command.
        target: where it publishes to: only this registry gets the logins of the command line.
        registry: flags of connections; read when the first image is asked for.

    Raises:
        UsageError: --image-path without --pin-images, or one that is no path.
    """
    pin, paths = flags.pop("pin_images"), flags.pop("image_paths")
    if not pin:
        if paths:
            raise UsageError("--image-path says which images to pin", hint="add --pin-images")
        return None
    from ocisync.flows.images import PinOptions
    from ocisync.model.image import parse_image_path

    def open_store(image: Reference) -> Store:
        from ocisync.cli.registry import open_registry

        is_target = isinstance(target, Reference) and image.host == target.host
        return open_registry(image, **(registry if is_target else {**registry, **dict.fromkeys(_OWN)}))

    return PinOptions(open_store, tuple(parse_image_path(text) for text in paths))
