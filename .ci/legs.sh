# Sourced by run: what each leg does. Every leg runs in a subshell of its own
# under `set -e`, from the top of the checkout, with $cache for what it leaves.

# -- interpreters --------------------------------------------------------------

suite_of_debian=forky
store=${XDG_CACHE_HOME:-$HOME/.cache}/safeconc-ci

released() { # released VERSION: the path of a CPython that this machine has
  local prefix
  if prefix=$(pyenv prefix "$1" 2>/dev/null); then
    echo "$prefix/bin/python"
  else
    uv python find "$1"
  fi
}

# built NAME SCRIPT ARG...: the folder of an interpreter, made by SCRIPT ARG... DEST
# when no earlier run on this machine has made it by the same recipe.
built() {
  local name=$1 script=$2 recipe dest
  shift 2
  recipe=$(cat ".ci/$script" .ci/scratch_apt.sh | sha256sum | head -c 12)
  dest=$store/$name-$recipe
  mkdir -p "$store"
  exec 9>"$dest.lock"
  flock 9 # a leg that needs it may start while another still builds it
  if [ ! -e "$dest/.complete" ]; then
    rm -rf "$dest"
    mkdir -p "$dest"
    bash ".ci/$script" "$@" "$dest" >&2
    touch "$dest/.complete"
  fi
  exec 9>&-
  echo "$dest"
}

python_of() { # python_of NAME: the path of the interpreter, got if need be
  local folder
  case $1 in
    3.14)
      folder=$(built 3.14 debpython.sh "$suite_of_debian" python3.14)
      echo "$folder/usr/bin/python3.14"
      ;;
    pypy)
      folder=$(built pypy debpython.sh "$suite_of_debian" pypy3)
      echo "$folder/usr/bin/pypy3"
      ;;
    3.13t)
      folder=$(built 3.13t nogil.sh "$suite_of_debian")
      echo "$folder/bin/python3.13t"
      ;;
    *) released "$1" ;;
  esac
}

# -- helpers -------------------------------------------------------------------

# venv INTERPRETER PIP-ARG...: the leg's own venv; its python is then $py.
venv() {
  local interpreter
  interpreter=$(python_of "$1")
  shift
  uv venv -q --clear --python "$interpreter" "$cache/venv-$leg"
  py=$cache/venv-$leg/bin/python
  uv pip install -q --python "$py" "$@"
  "$py" -VV
}

found=0
check() { # check COMMAND ARG...: from the leg's venv; goes on when it finds something
  printf '\n--- %s\n' "$*"
  # On PATH, since `pyright --verifytypes` looks nowhere else for the interpreter.
  PATH=$(dirname "$py"):$PATH "$@" || found=1
}

# Run the suite with $py. A hang, also one after the last test (a thread that
# nobody joined), ends with every thread's stack.
pytest() { # pytest [OPTION-OF-PYTHON...]
  local seed=$RANDOM status=0
  PYTHONFAULTHANDLER=1 timeout --foreground --signal ABRT --kill-after 10 900 \
    "$py" "$@" -m pytest -q --randomly-seed "$seed" \
    -o cache_dir="$cache/pytest-$leg" || status=$?
  if [ "$status" != 0 ]; then echo "the order was that of --randomly-seed $seed"; fi
  return "$status"
}

# The pins without hypothesis, for interpreters that its compiled core has no
# wheel for: they get the last version without one.
constraints_without_hypothesis() {
  grep -v '^hypothesis==' constraints.txt >"$cache/constraints-$leg.txt"
  echo "$cache/constraints-$leg.txt"
}

readme_block() { # readme_block NAME: the fenced block after <!-- NAME-command -->
  awk -v mark="<!-- $1-command -->" '
    index($0, mark) { marked = 1; next }
    marked && /^```/ { if (inside) exit; inside = 1; next }
    inside { sub(/^\$ /, ""); print; lines++ }
    END { if (!lines) { print "README.md has no block after " mark > "/dev/stderr"; exit 1 } }
  ' README.md
}

# -- legs ----------------------------------------------------------------------

lint() {
  venv 3.13 -c constraints.txt -e '.[dev]'
  check ruff check
  check ruff format --check
  check codespell
  check lint-imports --no-cache
  check deptry src
  check python .ci/private.py $(git ls-files 'src/*.py')
  bash .ci/pin.sh --check || found=1
  bash .ci/hosts.sh || found=1
  return "$found"
}

types() {
  venv 3.13 -c constraints.txt -e '.[dev]'
  local version
  # The oldest and the newest: code may ask for the version.
  for version in 3.11 3.14; do
    check mypy --cache-dir "$cache/mypy" --python-version "$version"
    check pyright --pythonversion "$version"
  done
  check pyright --verifytypes safeconc --ignoreexternal
  return "$found"
}

suite() { # suite INTERPRETER [PIP-ARG...]
  local interpreter=$1
  shift
  venv "$interpreter" -e '.[test]' "$@"
  pytest
}

suite_pinned() { suite "$1" -c constraints.txt; }

suite_pypy() {
  local constraints
  # Each costs several times what it does elsewhere, above all a pytest in the pytest.
  export SAFECONC_TEST_SEEDS=2 SAFECONC_TEST_RACES=20 SAFECONC_TEST_STRIDE=3
  export PYTEST_ADDOPTS='--ignore-glob=tests/test_plugin_[!r]*'
  constraints=$(constraints_without_hypothesis)
  suite pypy -c "$constraints" --only-binary hypothesis
}

suite_free_threaded() {
  local constraints
  constraints=$(constraints_without_hypothesis)
  venv 3.13t -c "$constraints" --only-binary hypothesis -e '.[test]'
  # An extension module that is not ready for it would switch the GIL on again.
  "$py" -c 'import sys, safeconc, trio, hypothesis, coverage; assert not sys._is_gil_enabled()'
  pytest
}

suite_lowest() { suite 3.11 --resolution lowest-direct; }

suite_uvloop() {
  export SAFECONC_TEST_LOOP=uvloop
  suite 3.13 -c constraints.txt uvloop
}

suite_debug() {
  export PYTHONASYNCIODEBUG=1 SAFECONC_TEST_STRIDE=3 # a task takes many times as long
  venv 3.13 -c constraints.txt -e '.[test]'
  pytest -X dev
}

suite_shuffled() {
  export SAFECONC_TEST_SEEDS=100 PYTEST_ADDOPTS=tests/test_shuffled.py
  suite 3.13 -c constraints.txt
}

# Not on other interpreters: the scheduler stands on sys.monitoring.
suite_interleaved() {
  export PYTEST_ADDOPTS="-o python_files=*.py tests/interleaved"
  suite 3.13 -c constraints.txt interleave-test
}

# The service of the example, with real clients and tools, and a cluster. The soak is a
# short one; for a release:
# SAFECONC_TEST_SOAK=600 pytest -m services -rP tests/services/test_sound.py
services() {
  local programs=(wrk prometheus golang-go)
  # Debian would start a Prometheus of its own; the tests start theirs.
  if ! dpkg -s "${programs[@]}" >/dev/null 2>&1; then
    apt-get -qq update
    RUNLEVEL=1 apt-get -qq -y install --no-install-recommends "${programs[@]}" >/dev/null
  fi
  export PYTEST_ADDOPTS="-m services -rP tests/services docs/howto/past-one-machine.md"
  venv 3.13 -c constraints.txt -e '.[services]'
  pytest
}

coverage() {
  export COVERAGE_FILE=$cache/coverage
  venv 3.13 -c constraints.txt -e '.[test]'
  # Not by a pytest plugin: ours has imported the package before one could start.
  pytest -m coverage run --branch --source safeconc
  "$py" -m coverage report
}

# The README's two commands as a newcomer runs them: a fresh clone, an empty
# home, a new venv, and of this environment only what reaches the network.
readme() {
  local new name command network
  new=$(mktemp -d)
  git clone -q . "$new/safeconc"
  "$(released 3.11)" -m venv "$new/venv"
  mkdir "$new/home"
  mapfile -t network < <(env | grep -iE '^(pip_|uv_(default_)?index|ssl_|[a-z_]+_(ca_|proxy))')
  for name in test demo; do
    command=$(readme_block "$name")
    echo "--- $name: $command"
    (
      cd "$new/safeconc"
      env -i "${network[@]}" HOME="$new/home" LANG=C.UTF-8 \
        PATH="$new/venv/bin:/usr/local/bin:/usr/bin:/bin" \
        timeout --foreground --kill-after 10 900 bash -euo pipefail -c "$command"
    )
  done
  rm -rf "$new"
}

package() {
  rm -rf "$cache/dist"
  uv build -q --out-dir "$cache/dist"
  uvx -q twine check --strict "$cache"/dist/*
  venv 3.11 "$cache"/dist/*.whl
  # From elsewhere, lest the checkout be what is imported.
  cd /
  "$py" -c 'from importlib.resources import files; files("safeconc").joinpath("py.typed").read_text()'
  "$py" -m safeconc --help
}
