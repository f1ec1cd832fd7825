"""A program of somebody else, run in this process as ``python`` itself would."""

import io
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourcelessFileLoader
from importlib.util import find_spec
from os import fspath
from pathlib import Path
from pkgutil import get_importer
from types import CodeType, ModuleType, TracebackType
from typing import Any, final


@final
class ProgramError(Exception):
    """There is nothing to run.

    :ivar code: the status with which ``python`` ends then.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@final
class Program:
    """What is to be run: a file, a folder or an archive; or a module, by its name.

    :mod:`runpy` takes its ``__main__`` away as soon as the last line has run, when
    threads and exit handlers of the program may still want it: to pickle what is
    defined there, or to tell :mod:`multiprocessing` where to find it. So the module
    is made here, and stays.
    """

    def __init__(self, target: str, arguments: Sequence[str], *, module: bool) -> None:
        self._target = target
        self._arguments = arguments
        self._module = module

    def __call__(self) -> None:
        """Run it; raise what it raises, with a traceback that begins in it.

        Raises :exc:`ProgramError` if there is no such program. What python sets for
        one (``sys.argv``, ``sys.path``, ``__main__``) stays set afterwards.
        """
        sys.argv = [self._target, *self._arguments]
        try:
            code, names = self._load()
            module = ModuleType("__main__")
            vars(module).update(names, __builtins__=sys.modules["builtins"])
            sys.modules["__main__"] = module
            exec(code, vars(module))  # noqa: S102 - that is what it is for
        except BaseException as exc:
            exc.__traceback__ = _without_us(exc.__traceback__)
            raise

    def _load(self) -> tuple[CodeType, dict[str, Any]]:
        """Find the code, and what its module is to know of itself."""
        path = Path(self._target)
        file = fspath(path.absolute())
        if self._module:
            _put_first(fspath(Path.cwd()))
            spec = _find(self._target)
            sys.argv[0] = spec.origin or self._target
        elif (importer := get_importer(file)) is not None:
            _put_first(file)
            found = importer.find_spec("__main__", None)
            if found is None:
                raise ProgramError(
                    f"can't find '__main__' module in {self._target!r}", 1
                )
            spec = found
        else:
            _put_first(fspath(path.resolve().parent))
            return _read(file), {"__file__": file, "__cached__": None, "__spec__": None}
        names = {
            "__file__": spec.origin,
            "__cached__": spec.cached,
            "__spec__": spec,
            "__loader__": spec.loader,
            "__package__": spec.parent,
        }
        return _code_of(spec), names


def _put_first(folder: str) -> None:
    """Have the program's own folder searched in the place of ours."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _find(name: str) -> ModuleSpec:
    """Find the module that ``python -m name`` would run."""
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = find_spec(name)
    except (ImportError, ValueError) as exc:
        raise ProgramError(
            f"Error while finding module specification for {name!r} "
            f"({type(exc).__name__}: {exc})",
            1,
        ) from exc
    if spec is None:
        raise ProgramError(f"No module named {name}", 1)
    return spec


def _code_of(spec: ModuleSpec) -> CodeType:
    # Of a loader for modules in Python; those of extensions have it and return None.
    get_code = getattr(spec.loader, "get_code", None)
    code: CodeType | None = None if get_code is None else get_code(spec.name)
    if code is None:
        raise ProgramError(f"No code object available for {spec.name}", 1)
    return code


def _read(file: str) -> CodeType:
    if file.endswith(".pyc"):
        code = SourcelessFileLoader("__main__", file).get_code("__main__")
        assert code is not None
        return code
    try:
        with io.open_code(file) as source:
            text = source.read()
    except OSError as exc:
        raise ProgramError(
            f"can't open file {file!r}: [Errno {exc.errno}] {exc.strerror}", 2
        ) from None
    return compile(text, file, "exec", dont_inherit=True)


def _without_us(traceback: TracebackType | None) -> TracebackType | None:
    """Leave out the calls in this file, with which the traceback begins."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback
