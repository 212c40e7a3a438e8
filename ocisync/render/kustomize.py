"""How kustomize is called, and what it says when it cannot build. No plugins, no charts, no files outside a root."""

from __future__ import annotations

from ocisync.model.errors import Finding
from ocisync.render.layout import Unit


def argument(unit: Unit) -> str:
    """The directory to build; begins with a dot, so that it is never a flag or an address."""
    return f"./{unit.directory}" if unit.directory else "."


def complaint(unit: Unit, message: str) -> Finding:
    """Kustomize's own words at the kustomization they are about."""
    return Finding(unit.file, 0, 0, f"kustomize: {message}")
