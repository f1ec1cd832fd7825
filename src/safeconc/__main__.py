"""The ``safeconc`` command, also ``python -m safeconc``."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import version

from safeconc._demo import _command as demo
from safeconc._demo._model import DemoError
from safeconc.leaks import _command as run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, by default the process's; return the exit code."""
    parser = ArgumentParser(
        prog="safeconc", description="Concurrency that ends when its block ends."
    )
    parser.add_argument(
        "--version", action="version", version=f"safeconc {version('safeconc')}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    demo.add_to(commands)
    run.add_to(commands)
    options = parser.parse_args(argv)
    try:
        code: int = options.run(options)
    except DemoError as exc:
        print(f"safeconc: {exc}", file=sys.stderr)
        return exc.code
    except KeyboardInterrupt:
        if options.run is run.run:  # it was the program's, and was told of
            raise
        print("safeconc: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
