#!/usr/bin/env bash
# pin.sh [--check | --upgrade]: write constraints.txt, the versions CI tests with.
#
# Pins that still fit are kept (unless --upgrade), so that --check fails only
# when pyproject.toml has moved away from them.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # compile FILE [OPTION...]
  # No index, no path and no links in it: it must fit every machine, and tell of none.
  # From our oldest Python on, not from whichever is found here.
  uv pip compile -q --universal --python-version 3.11 --no-emit-index-url \
    --no-emit-find-links --no-annotate \
    --custom-compile-command 'bash .ci/pin.sh' --extra dev pyproject.toml -o "$@" >/dev/null
}

case ${1-} in
  --check)
    fresh=$(mktemp --suffix=.txt)
    cp constraints.txt "$fresh"
    compile "$fresh"
    diff -u constraints.txt "$fresh"
    rm "$fresh"
    ;;
  *) compile constraints.txt "$@" ;;
esac
