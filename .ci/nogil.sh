#!/usr/bin/env bash
# nogil.sh SUITE DEST: compile the free-threaded CPython 3.13 of a Debian suite.
#
# Debian has no such binary, and of 3.14 its mirror lacks the source.
set -euo pipefail
suite=$1 dest=$2
source "$(dirname "$0")/scratch_apt.sh"

apt-get -qq -o Acquire::Retries=3 update
apt-get -qq -y -o Acquire::Retries=3 install --no-install-recommends build-essential dpkg-dev pkg-config xz-utils \
  libbz2-dev libffi-dev liblzma-dev libreadline-dev libsqlite3-dev libssl-dev zlib1g-dev \
  >/dev/null

scratch_apt "$suite" deb-src
work=$(mktemp -d)
cd "$work"
apt source --download-only python3.13
# The pristine tarball: with Debian's patches a free-threaded venv does not find
# its own site-packages.
mkdir source build
tar -xf python3.13_*.orig.tar.xz -C source --strip-components=1
cd build
# -O1 without test modules takes 134 CPU seconds, the defaults 321.
../source/configure -q --disable-gil --disable-test-modules --without-ensurepip --prefix="$dest" \
  OPT='-O1 -DNDEBUG -g0'
# Nice: the legs that run meanwhile come first, idle cores are ours.
nice make -s -j"$(nproc)"
make -s install >/dev/null
cd /
rm -rf "$apt_state" "$work"
"$dest/bin/python3.13t" -VV
