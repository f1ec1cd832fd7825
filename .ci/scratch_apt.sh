# Sourced: `apt` for another Debian suite, in a scratch folder, the host untouched.
#
# scratch_apt SUITE TYPE (deb | deb-src) reuses the machine's own sources entry,
# so that no mirror is named here, and defines `apt` and $apt_state.

scratch_apt() {
  local suite=$1 type=$2
  apt_state=$(mktemp -d)
  mkdir -p "$apt_state"/{etc/apt/sources.list.d,etc/apt/preferences.d,etc/apt/apt.conf.d} \
    "$apt_state"/var/{lib/apt/lists/partial,cache/apt/archives/partial,lib/dpkg}
  : >"$apt_state/var/lib/dpkg/status"
  sed -n '0,/^$/p' /etc/apt/sources.list.d/debian.sources |
    sed "s/^Suites:.*/Suites: $suite/; s/^Types:.*/Types: $type/" \
      >"$apt_state/etc/apt/sources.list.d/debian.sources"
  apt update
}

apt() {
  apt-get -qq -o Dir="$apt_state" -o Dir::State::status="$apt_state/var/lib/dpkg/status" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
