"""private.py FILE...: fail where the package reaches for what another one hides.

Ruff and pyright draw this line around a class. Here it goes around the package:
our modules are halves of one thing, and what they share users must not touch; but
nothing private of asyncio, anyio, trio or the interpreter is used.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

DOCUMENTED = {"_current_frames", "_exit", "_getframe", "_replace"}
"""Functions of sys, os and named tuples, public in spite of their names."""


def defined(node: ast.AST) -> Iterator[str]:
    """Yield the name that *node* gives to a function, a variable or an attribute."""
    match node:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            yield name
        case ast.Name(name, ast.Store()) | ast.Constant(str(name)):  # also __slots__
            yield name
        case ast.Attribute(ast.Name("self" | "cls"), name, ast.Store()):
            yield name


def used(node: ast.AST) -> Iterator[str]:
    """Yield the names that *node* takes from elsewhere."""
    match node:
        case ast.Attribute(_, name):
            yield name
        case ast.ImportFrom(str(module), names) if not module.startswith("safeconc"):
            yield from module.split(".")[1:]
            yield from (alias.name for alias in names)


def main(paths: list[str]) -> int:
    """Print each private name that is used and that none of the files defines."""
    trees = {path: list(ast.walk(ast.parse(Path(path).read_text()))) for path in paths}
    known = {
        name for nodes in trees.values() for node in nodes for name in defined(node)
    } | DOCUMENTED
    count = 0
    for path, nodes in trees.items():
        for node in nodes:
            for name in used(node):
                if name[0] == "_" and name[-2:] != "__" and name not in known:
                    print(f"{path}:{node.lineno}: {name} is private elsewhere")
                    count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
