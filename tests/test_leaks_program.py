"""A program that is run in this process is as it would be under ``python``."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeconc.leaks._program import Program, ProgramError

FACTS = """
import sys
seen = [__name__, __file__, sys.argv, sys.path[0], __spec__ and __spec__.name,
        __package__, sys.modules["__main__"].__dict__ is globals(), __builtins__.len]
print(seen)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give back what a program changes, and stand in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str) -> Path:
    """Write a file below the working directory."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def python(*arguments: str) -> str:
    """Return what ``python`` prints, without where its own files are."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(["prog.py", "a", "--b"], id="a file"),
        pytest.param(["sub/link.py"], id="a link"),
        pytest.param(["folder", "a"], id="a folder"),
        pytest.param(["packed.zip"], id="an archive"),
        pytest.param(["-m", "mod", "-x"], id="a module"),
        pytest.param(["-m", "package"], id="a package"),
        pytest.param(["-m", "package.part"], id="part of a package"),
    ],
)
def test_a_program_finds_what_python_would_have_set(
    call: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name, its arguments, its path and its ``__main__``."""
    for file in ("prog.py", "mod.py", "folder/__main__.py", "package/part.py"):
        write(file, FACTS)
    write("package/__init__.py", "")
    write("package/__main__.py", FACTS)
    Path("sub").mkdir()
    Path("sub/link.py").symlink_to(Path("prog.py").absolute())
    with zipfile.ZipFile("packed.zip", "w") as archive:
        archive.writestr("__main__.py", FACTS)
    module = call[0] == "-m"
    target, *arguments = call[module:]

    Program(target, arguments, module=module)()

    assert capsys.readouterr().out == python(*call)


def test_a_compiled_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Without its source."""
    import py_compile

    write("prog.py", "print('here')")
    py_compile.compile("prog.py", cfile="prog.pyc")

    Program("prog.pyc", [], module=False)()

    assert capsys.readouterr().out == "here\n"


@pytest.mark.parametrize(
    "call, says, code",
    [
        (["gone.py"], "can't open file", 2),
        (["folder"], "can't find '__main__' module", 1),
        (["-m", "gone"], "No module named gone", 1),
        (["-m", "gone.part"], "Error while finding module specification", 1),
        (["-m", "package"], "No module named package.__main__", 1),
        (["-m", "sys"], "No code object available for sys", 1),
    ],
)
def test_what_cannot_be_run_is_refused_as_python_does(
    call: list[str], says: str, code: int
) -> None:
    """With the status that python would end with."""
    write("package/__init__.py", "")
    Path("folder").mkdir()
    module = call[0] == "-m"

    with pytest.raises(ProgramError, match=says) as caught:
        Program(call[-1], [], module=module)()

    assert caught.value.code == code
    assert says in python(*call)


def test_a_traceback_begins_in_the_program() -> None:
    """None of our own calls is in it."""
    file = write("prog.py", "def fail():\n    raise LookupError\nfail()")

    with pytest.raises(LookupError) as caught:
        Program("prog.py", [], module=False)()

    names = [entry.frame.code.name for entry in caught.traceback]
    assert names[-2:] == ["<module>", "fail"]
    assert {str(entry.path) for entry in caught.traceback[-2:]} == {
        str(file.absolute())
    }
    assert "__call__" not in names[1:]


def test_a_syntax_error_has_no_traceback_at_all() -> None:
    """It happened before the first line."""
    write("prog.py", "1 +")

    with pytest.raises(SyntaxError) as caught:
        Program("prog.py", [], module=False)()

    assert caught.value.filename == str(Path("prog.py").absolute())
    assert [entry.frame.code.name for entry in caught.traceback][1:] in (
        [],
        ["__call__"],
    )


def test_the_main_module_outlives_its_last_line() -> None:
    """Threads and exit handlers still find their globals there."""
    write("prog.py", "class Job: pass")

    Program("prog.py", [], module=False)()

    assert sys.modules["__main__"].Job.__module__ == "__main__"


def test_a_safe_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``python -P`` nothing is put before the standard library."""
    flags = {
        name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"
    }
    monkeypatch.setattr(sys, "flags", type("Flags", (), flags | {"safe_path": True}))
    before = sys.path[:]
    write("prog.py", "")

    Program("prog.py", [], module=False)()

    assert sys.path == before
