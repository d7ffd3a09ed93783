"""The user's code: a file or a module with orchestrators and activities in it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from perdure.cli.problems import UsageProblem
from perdure.registry import Registry

__all__ = ["choose_orchestrator", "load_file", "load_source", "register"]


def load_source(source: str) -> ModuleType:
    """Import a file or, by its dotted name, a module.

    Raises:
        UsageProblem: there is none, or its code fails.
    """
    if source.endswith(".py") or os.sep in source or Path(source).is_file():
        return load_file(source)
    sys.path.insert(0, os.getcwd())
    with _explaining(source):
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            # Only where this very module is missing, and not one that it imports.
            if error.name is None or not f"{source}.".startswith(f"{error.name}."):
                raise
            raise UsageProblem(
                f"there is neither a file nor a module {source!r}; give the path of a .py file, or the dotted name of "
                "a module that can be imported from here"
            ) from None


def load_file(file: str) -> ModuleType:
    """Import a file under its own name, with its directory on `sys.path`; raises what `load_source` does."""
    path = Path(file).resolve()
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise UsageProblem(f"{file} {what}; give the path of a .py file with orchestrators in it")
    sys.path.insert(0, str(path.parent))
    # A file may be called like a module that is in use: `random.py` must not take the place of Python's own.
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageProblem(f"{file} is no Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    # As for any import: dataclasses and pickle look their module up.
    sys.modules[name] = module
    try:
        with _explaining(file):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def register(module: ModuleType, source: str) -> Registry:
    """Return what is marked in `module`.

    Raises:
        UsageProblem: nothing is, or two functions have one name.
    """
    registry = Registry()
    try:
        registry.add_module(module)
    except (TypeError, ValueError) as error:
        raise UsageProblem(f"{source}: {error}") from None
    if not registry.orchestrators and not registry.activities:
        raise UsageProblem(
            f"{source} has no orchestrators or activities; mark them with @perdure.orchestrator and @perdure.activity"
        )
    return registry


def choose_orchestrator(registry: Registry, name: str | None, source: str) -> str:
    """Return the name of the orchestrator to run.

    Args:
        registry: what there is.
        name: the one asked for, None for the only one.
        source: the file, for messages.

    Raises:
        UsageProblem: there is none of that name, none at all, or several and no name.
    """
    names = sorted(registry.orchestrators)
    if not names:
        raise UsageProblem(f"{source} has no orchestrators; mark one with @perdure.orchestrator")
    if name is None:
        if len(names) > 1:
            raise UsageProblem(f"{source} has several orchestrators; name one of them: {', '.join(names)}")
        return names[0]
    if name not in names:
        raise UsageProblem(f"{source} has no orchestrator {name!r}; it has {', '.join(names)}")
    return name


@contextlib.contextmanager
def _explaining(source: str) -> Iterator[None]:
    try:
        # What a module prints while it is loaded is not the command's output.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (UsageProblem, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        raise UsageProblem(f"{error.filename or source}, line {error.lineno}: {error.msg} (SyntaxError)") from None
    except SystemExit as error:
        raise UsageProblem(
            f"{source} ended the process while it was loaded ({error!r}); put what is not to run then under "
            "`if __name__ == '__main__':`"
        ) from None
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageProblem(
            f"{source} can't be loaded: {type(error).__name__}: {error} ({at.filename}, line {at.lineno})"
        ) from None
