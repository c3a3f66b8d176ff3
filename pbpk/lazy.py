"""Packages whose public names are loaded on first use, so that ``--help`` never waits for torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def loader(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a package's ``__getattr__`` (PEP 562), by which its public names are loaded on first use.

    A public name wins over a module of the package that has the same name (``pbpk.simulate``), which
    Python would otherwise bind in its place as soon as that module is imported.

    Arguments:
        package: The package's ``__name__``.
        home: The module of the package in which each public name is at home.

    >>> import pbpk, pbpk.simulate
    >>> callable(pbpk.simulate), "simulate" in dir(pbpk)
    (True, True)
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in home and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return list(home)

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    sys.modules[package].__class__ = Package
    return load
