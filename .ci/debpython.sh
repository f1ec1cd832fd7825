#!/usr/bin/env bash
# debpython.sh SUITE {python3.14 | pypy3} DEST: a newer Python, with its own libc.
#
# Unpacks Debian's packages into DEST and points the executable at the loader
# and the libraries in there. DEST must be absolute and must not move.
set -euo pipefail
suite=$1 package=$2 dest=$3
source "$(dirname "$0")/scratch_apt.sh"

scratch_apt "$suite" deb
apt -y install --download-only --no-install-recommends "$package" >/dev/null
for deb in "$apt_state"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$dest"; done
rm -rf "$apt_state"

exe=$(readlink -f "$dest/usr/bin/$package")
libraries=$dest/usr/lib/$(uname -m)-linux-gnu
loader=$(patchelf --print-interpreter "$exe")
# Forced: as a plain runpath it would not hold for the libraries' own needs.
patchelf --set-interpreter "$dest/usr$loader" --force-rpath --set-rpath "$libraries" "$exe"
for library in "$libraries"/libpypy*.so; do
  if [ -e "$library" ]; then patchelf --force-rpath --set-rpath "$libraries" "$library"; fi
done
"$exe" -VV
