"""Modules that a library imports and we never make it use: registered, and executed only if someone does use them.

After `defer("jsonschema")`, the `import jsonschema` of another library costs nothing. (The standard library's
`LazyLoader` does not help here: in its modules, a plain import statement is a use already.)
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.RLock()


class _Deferred(ModuleType):
    """A module that is executed when something is asked of it that only its execution can give."""

    def __getattr__(self, name: str) -> Any:
        with _lock:
            spec = self.__spec__
            if type(self) is _Deferred and spec is not None and spec.loader is not None:
                self.__class__ = ModuleType  # type: ignore[assignment]  # an ordinary module from now on
                spec.loader.exec_module(self)
        return getattr(self, name)


def defer(name: str, *, version_in: str = "") -> None:
    """Let `import name` give a module that is executed at its first use; nothing if it is loaded already.

    Args:
        name: a module or package.
        version_in: its small submodule that knows `__version__`, for importers that look at nothing else.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return  # the importer will say what is missing
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Deferred
    sys.modules[name] = module
    if version_in:
        with contextlib.suppress(ImportError, AttributeError):  # another edition of it: executed when asked
            version = importlib.import_module(f"{name}.{version_in}").__version__
            module.__version__ = version  # type: ignore[attr-defined]
