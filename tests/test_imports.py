"""The shop window: what is public, and what imports what."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import safeconc

SOURCE = Path(safeconc.__file__).parent
PUBLIC = sorted(safeconc.__all__)


def _rows() -> dict[str, tuple[int, int]]:
    """Read the map in the package's docstring: each module's row and place in it."""
    _, _, drawing = inspect.getdoc(safeconc).partition("::\n\n")  # type: ignore[union-attr]
    rows: dict[str, tuple[int, int]] = {}
    for row, line in enumerate(drawing.splitlines()):
        modules, _, _ = line.strip().partition("   ")
        rows |= {name: (row, place) for place, name in enumerate(modules.split())}
    return rows


ROWS = _rows()


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield each source file with the name of the module or folder on the map."""
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).with_suffix("").parts[0]
        if name != "__init__":
            yield name, path


def _imports(path: Path) -> Iterator[str]:
    """Yield which modules and folders of ours a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "safeconc":
                names = [f"safeconc.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "safeconc" and rest:
                yield rest.partition(".")[0]


@pytest.mark.parametrize("name", sorted({name for name, _ in _modules()}))
def test_every_module_is_on_the_map(name: str) -> None:
    """Who adds a module says where it belongs."""
    assert name in ROWS


@pytest.mark.parametrize(
    "name, path",
    [
        pytest.param(*each, id=each[1].relative_to(SOURCE).as_posix())
        for each in _modules()
    ],
)
def test_imports_go_downward_only(name: str, path: Path) -> None:
    """A module imports what stands before it on the map, and its own folder."""
    public = {"Context", "ErrGroup", "FanOut", "fan_out"} | set(PUBLIC)
    imported = {each for each in _imports(path) if each not in public}

    assert {each for each in imported if each != name and ROWS[each] > ROWS[name]} == (
        set()
    )


def _loaded(statement: str) -> set[str]:
    """Return which top-level modules a fresh interpreter has after *statement*."""
    program = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_import_is_light() -> None:
    """Extras are imported by who uses them, and nothing else that is heavy."""
    loaded = _loaded("import safeconc")

    assert "safeconc._fanout" in loaded
    assert not loaded & {
        "concurrent.futures.process",
        "httpx",
        "hypothesis",
        "multiprocessing",
        "opentelemetry",
        "prometheus_client",
        "pytest",
        "rich",
        "safeconc.antipatterns",
        "trio",
        "uvloop",
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_say_where_they_are_public(name: str) -> None:
    """Tracebacks and pickles name no private module."""
    assert getattr(safeconc, name).__module__ == "safeconc"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_a_docstring(name: str) -> None:
    """So have their public methods and properties."""
    thing: Any = getattr(safeconc, name)
    members: dict[str, Any] = {name: thing}
    if isinstance(thing, type):
        members |= {
            each: getattr(thing, each)
            for each, value in vars(thing).items()
            if not each.startswith("_")
            and isinstance(value, (FunctionType, property, classmethod))
        }

    assert [each for each, value in members.items() if not value.__doc__] == []


def test_nothing_else_looks_public() -> None:
    """What has no underscore is in ``__all__``, or a public folder."""
    visible = {name for name in vars(safeconc) if not name.startswith("_")}
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}

    assert visible - folders == set(PUBLIC)
    assert list(safeconc.__all__) == PUBLIC
