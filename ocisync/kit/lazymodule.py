"""Modules that a library imports and we never make it use: registered, and executed only if someone does use them.

After `defer("jsonschema")`, the `import jsonschema` of another library costs nothing. (The standard library's
`LazyLoader` does not help here: in its modules, a plain import statement is a use already.) `postpone` does the same
for parts of a package that is still to be imported, also where that package takes functions out of them by name.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_lock = threading.RLock()
_postponed: dict[str, tuple[str, ...]] = {}


class _Deferred(ModuleType):
    """A module that is executed when something is asked of it that only its execution can give."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # asked by every `from m import …`; a package has it before it is executed
            raise AttributeError(name)
        _execute(self)
        return getattr(self, name)


def _execute(module: ModuleType) -> None:
    with _lock:
        spec = module.__spec__
        if type(module) is _Deferred and spec is not None and spec.loader is not None:
            module.__class__ = ModuleType  # type: ignore[assignment]  # an ordinary module from now on
            spec.loader.exec_module(module)


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


def postpone(modules: Mapping[str, Sequence[str]]) -> None:
    """Let later imports of these modules give ones that are executed at their first use.

    Args:
        modules: for each the functions and classes that importers take from it by name. They get stand-ins, which can
            be called and nothing else, and the first call executes the module.
    """
    with _lock:
        _postponed.update({name: tuple(taken) for name, taken in modules.items() if name not in sys.modules})
        if not any(isinstance(finder, _Postponing) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Postponing())


class _Postponing(MetaPathFinder):
    """Finds postponed modules where the other finders do, and has them executed later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        taken = _postponed.get(fullname)
        if taken is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Later(spec.loader, taken)
                return spec
        return None


class _Later(Loader):
    """Gives an import a deferred module, and the module its real loader."""

    def __init__(self, loader: Loader, taken: Sequence[str]) -> None:
        self._loader = loader
        self._taken = taken

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        for name in self._taken:
            setattr(module, name, _stand_in(module, name))
        module.__class__ = _Deferred


def _stand_in(module: ModuleType, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        _execute(module)  # which puts the real one in our place
        return getattr(module, name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    return call
