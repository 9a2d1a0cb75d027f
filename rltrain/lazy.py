"""Heavy modules that are loaded when they are first used, not when a file that names them is read.

`rltrain check` and `rltrain list` read every agent's settings; torch, which takes a second to load,
is not needed for that. A file that uses torch writes

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy_module("torch")
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by import machinery and inspection, never by our code
            raise AttributeError(name)
        module = importlib.import_module(self.__name__)
        self.__dict__.update(module.__dict__)  # from now on as fast as the module itself
        return getattr(module, name)


def lazy_module(name: str) -> ModuleType:
    """Return a stand-in for module `name` that imports it at the first use of one of its attributes."""
    return _LazyModule(name)
