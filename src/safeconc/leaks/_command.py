"""``safeconc run``: a program under watch, and a report at its end."""

import os
import sys
import time
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from safeconc.leaks._model import Entry, Snapshot
from safeconc.leaks._overseer import Overseer
from safeconc.leaks._pprof import as_pprof
from safeconc.leaks._program import Program, ProgramError
from safeconc.leaks._report import report, show

LEAKED = 3
"""The exit code of a program that did well otherwise, with ``--fail-on-leak``."""

_TITLE = "Left behind"

_BLIND = (
    "This Python does not tell when an event loop ends; 3.12 and later do. What "
    "asyncio.run() has cancelled was not seen."
)


def add_to(subparsers: Any) -> None:
    """Add the command's parser to *subparsers*."""
    parser: ArgumentParser = subparsers.add_parser(
        "run",
        help="run a program, and report what it left behind",
        usage="%(prog)s [options] (PROGRAM | -m MODULE) [ARGUMENT ...]",
        description=(
            "Run a program as python would, and report at its end which tasks were "
            "alive when an event loop was closed, and which threads, timers and "
            "processes when the last line had run."
        ),
        epilog=(
            "The exit code is the program's. Nothing is reported of a program that is "
            "killed, or that ends by os._exit()."
        ),
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write it there, not to stderr"
    )
    parser.add_argument("--pprof", metavar="FILE", help="write a profile, too")
    parser.add_argument(
        "--fail-on-leak",
        action="store_true",
        help=f"exit with {LEAKED} if anything was left and all else was well",
    )
    parser.add_argument("-m", dest="module", nargs=REMAINDER, help="run a module")
    parser.add_argument("program", nargs=REMAINDER, help="a file, folder or archive")
    parser.set_defaults(run=run, parser=parser)


def run(options: Namespace) -> int:
    """Run the program; return the exit code, or raise what is to end the process."""
    call: Sequence[str] = options.module or options.program
    if not call:
        options.parser.error("which program? Give a file, or -m and a module")
    files = _Files(options.report, options.pprof, options.parser)
    program = Program(call[0], call[1:], module=options.module is not None)
    overseer = Overseer()
    pid = os.getpid()
    end: BaseException | None = None
    overseer.begin()
    try:
        program()
    except ProgramError as exc:
        overseer.end()
        sys.stderr.write(f"{sys.executable}: {exc}\n")
        return exc.code
    except BaseException as exc:  # noqa: BLE001 - it goes on below
        traceback = exc.__traceback__
        assert traceback is not None
        end = exc.with_traceback(traceback.tb_next)  # it begins in the program
    if end is not None and not isinstance(end, SystemExit):
        sys.excepthook(type(end), end, end.__traceback__)
    sees_loops = overseer.sees_loops
    left = overseer.end()
    if os.getpid() == pid:  # a process that was forked reports nothing
        files.write(left, () if sees_loops else (_BLIND,))
        if left and options.fail_on_leak and _is_well(end):
            return LEAKED
    if end is None:
        return 0
    if isinstance(end, (SystemExit, KeyboardInterrupt)):
        _leave(end)
    return 1


def _is_well(end: BaseException | None) -> bool:
    return end is None or (isinstance(end, SystemExit) and not end.code)


def _leave(end: BaseException) -> NoReturn:
    """Have the interpreter end as it does for such an order, without a word."""
    sys.excepthook = _say_nothing
    raise end.with_traceback(None)


def _say_nothing(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    del kind, error, traceback


class _Files:
    """Where reports go: decided before the program can change the folder."""

    def __init__(
        self, text: str | None, profile: str | None, parser: ArgumentParser
    ) -> None:
        self._text = None if text is None else Path(text).absolute()
        self._profile = None if profile is None else Path(profile).absolute()
        for path in (self._text, self._profile):
            try:
                if path is not None:
                    path.open("ab").close()
            except OSError as exc:
                parser.error(f"cannot write {path}: {exc.strerror}")

    def write(self, left: tuple[Entry, ...], notes: tuple[str, ...]) -> None:
        """Write what there is to say; a terminal that is gone is no error."""
        snapshot = Snapshot(left, time.time(), notes)
        try:
            if self._profile is not None:
                self._profile.write_bytes(as_pprof(snapshot))
            if self._text is not None:
                text = f"{report(snapshot, title=_TITLE)}\n"
                self._text.write_text(text, "utf-8", "backslashreplace")
            else:
                show(snapshot, title=_TITLE)
        except (OSError, ValueError) as exc:  # the file system, or a closed stderr
            if sys.__stderr__ is not None and not sys.__stderr__.closed:
                sys.__stderr__.write(f"safeconc: no report: {exc}\n")
