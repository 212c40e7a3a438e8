"""Compare desired with live values as the API server would, and show them to people without secrets."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final

from ocisync.cluster.fields import MISSING, Path
from ocisync.model.resource import ObjectId

ABSENT: Final = "(absent)"
MASKED: Final = "(masked)"

_MAX_CHARS: Final = 80
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?\Z")
_FACTORS: Final = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def same_value(desired: Any, live: Any) -> bool:
    """Whether a live value says the same as the desired one: defaults may be added, quantities may be rewritten."""
    if desired is MISSING or live is MISSING:
        # Null and empty values vanish on the server.
        present = live if desired is MISSING else desired
        return present is MISSING or present is None or present in ({}, [])
    if isinstance(desired, dict) and isinstance(live, dict):
        return all(same_value(value, live.get(name, MISSING)) for name, value in desired.items())
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(same_value(a, b) for a, b in zip(desired, live, strict=True))
    if isinstance(desired, bool) or isinstance(live, bool):
        return desired is live
    return bool(desired == live) or _same_quantity(desired, live)


def _same_quantity(first: Any, second: Any) -> bool:
    one, two = _quantity(first), _quantity(second)
    return one is not None and one == two


def _quantity(value: Any) -> Decimal | None:
    match = _QUANTITY.match(str(value)) if isinstance(value, str | int | float) else None
    return Decimal(match.group(1)) * _FACTORS[match.group(2) or ""] if match else None


def shown(value: Any, object_id: ObjectId, path: Path) -> str:
    """A value for messages: short, on one line, and never a Secret's."""
    if value is MISSING:
        return ABSENT
    if object_id.kind == "Secret" and not object_id.group and path[:1] != ("f:metadata",):
        return MASKED
    if object_id.kind == "Secret" and not object_id.group and path[:2] == ("f:metadata", "f:annotations"):
        return MASKED  # kubectl's last-applied annotation holds the whole Secret
    text = value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
