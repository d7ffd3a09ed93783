"""Durable orchestrations in Python, on the database that you already run.

An orchestrator is ordinary Python; what it does is recorded step by step in a storage provider, and goes on after any
crash. While it runs it publishes a custom status, a small JSON value that anyone may read.

The public names are those of `perdure.exports`. They are loaded when one is first used: `perdure --help` needs none.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from perdure.exports import *  # noqa: F403 - the one list of names is there
else:
    # Hidden from type checkers, for which it would make every misspelt name an Any.
    def __getattr__(name):
        submodule = f"{__name__}.{name}"
        if find_spec(submodule) is not None:
            return import_module(submodule)
        exports = import_module("perdure.exports")
        if name == "__all__" or name in exports.__all__:
            return getattr(exports, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return [*globals(), *import_module("perdure.exports").__all__]
