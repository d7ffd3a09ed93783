"""Who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVERS = {"sqlite3", "sqlalchemy", "psycopg", "psycopg_pool", "pymongo", "mongomock"}
PROVIDERS = {path.name for path in (ROOT / "providers").iterdir() if path.is_dir()}
# What each uses beside Python itself; `perdure_sql` knows no driver.
LIBRARIES = {
    "perdure_postgres": {"psycopg", "psycopg_pool", "sqlalchemy"},
    "perdure_sql": {"sqlalchemy"},
    "perdure_sqlite": {"sqlite3", "sqlalchemy"},
}
OURS = {"perdure", "perdure_conformance", *PROVIDERS}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield node.module


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} holds no Python files"
    return found


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_the_interface_imports_nothing_of_ours() -> None:
    for path in files("core/perdure/spi"):
        for module in imports(path):
            if module.split(".")[0] in OURS:
                assert is_within(module, "perdure.spi"), f"{path} imports {module}"


def test_the_core_imports_no_provider_and_no_driver() -> None:
    for path in files("core/perdure"):
        for module in imports(path):
            top = module.split(".")[0]
            assert top not in PROVIDERS | DRIVERS | {"perdure_conformance"}, f"{path} imports {module}"


@pytest.mark.parametrize(
    "provider", sorted(name for name in PROVIDERS if list((ROOT / "providers" / name).glob("*.py")))
)
def test_a_provider_imports_the_interface_alone(provider: str) -> None:
    for path in files(f"providers/{provider}"):
        for module in imports(path):
            if module.split(".")[0] in OURS:
                allowed = ["perdure.spi", provider, "perdure_sql"]
                if path.name == "conformance.py":
                    allowed.append("perdure_conformance")
                assert any(is_within(module, package) for package in allowed), f"{path} imports {module}"
            elif module.split(".")[0] not in sys.stdlib_module_names - DRIVERS:
                assert module.split(".")[0] in LIBRARIES.get(provider, ()), f"{path} imports {module}"


def test_the_suite_imports_no_provider_but_the_reference() -> None:
    for path in files("conformance"):
        # The broken providers are the real ones with something taken out.
        if "mutants" in path.parts:
            continue
        for module in imports(path):
            assert module.split(".")[0] not in DRIVERS | PROVIDERS - {"perdure_memory"}, f"{path} imports {module}"


def test_no_provider_imports_its_adapter() -> None:
    """It is for the suite: using the provider must not need what the suite needs."""
    for path in files("providers"):
        for module in imports(path):
            assert module != f"{path.parent.name}.conformance", f"{path} imports {module}"


def test_replay_imports_no_clock_no_io_and_no_thread() -> None:
    impure = {"time", "threading", "asyncio", "socket", "os", "pathlib", "subprocess", "queue", "concurrent"}
    for path in files("core/perdure/replay"):
        for module in imports(path):
            assert module.split(".")[0] not in impure, f"{path} imports {module}"
            assert module not in {"perdure.engine", "perdure.worker", "perdure.client"}, f"{path} imports {module}"


def test_importing_perdure_imports_no_driver() -> None:
    # Every name is touched, for perdure loads them when they are first used.
    code = f"""
import sys, perdure, perdure.exports
for name in perdure.exports.__all__:
    getattr(perdure, name)
assert "perdure.worker" in sys.modules and "perdure.client" in sys.modules
print(*sorted({DRIVERS!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_source_roots_are_not_packages() -> None:
    for root in ("core", "providers", "conformance"):
        assert not (ROOT / root / "__init__.py").exists()


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = {
        path.stem
        for path in (ROOT / "core/perdure").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    for room in rooms - {"__init__", "__main__"}:
        assert f"`{room}`" in page, f"docs/architecture.md doesn't say what belongs in {room}"
