#!/usr/bin/env bash
# hosts.sh: fail when a committed file names a package registry or locks to one.
#
# Which hosts those are, it takes from this machine's own settings.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
if git ls-files --cached --others --exclude-standard |
  grep -E '(^|/)(uv\.lock|pylock.*\.toml|poetry\.lock|Pipfile\.lock|package-lock\.json)$'; then
  echo 'lock files name registry hosts: use constraints.txt'
  failed=1
fi
if git grep --untracked -nIE 'https?://[^ )"]+/(simple|packages)/'; then
  echo 'a registry address is committed'
  failed=1
fi
hosts=$(
  {
    python3 -c 'from pip._internal.models.index import PyPI
print(PyPI.netloc, PyPI.file_storage_domain, sep="\n")'
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
      grep -v '^ *#' | grep -oE 'https?://[^/ ]+'
    { python3 -m pip config list; env; } | grep -iE 'index|find.links|registry' |
      grep -oE 'https?://[^/ ]+' || true
  } | sed 's,.*://,,; s,.*@,,' | sort -u
)
if git grep --untracked -nIFf <(echo "$hosts"); then
  echo 'a registry host is named'
  failed=1
fi
exit "$failed"
