#!/usr/bin/env bash
# Every check of this project: lint, types, import contracts, tests. Arguments go to pytest.
#
#   tests/run.sh                         everything that this machine can run
#   tests/run.sh tests/unit -x           a part
#   OCISYNC_REQUIRE_REAL=1 tests/run.sh  what is missing is a failure, not a skip (as CI runs it)
#
# Needs Python ≥ 3.11 ($PYTHON, default python3) and makes its own .venv. With Go it builds the real
# servers first (about 20 minutes on two cores the first time, cached afterwards); without Go the tests
# that need them are skipped. OCISYNC_SKIP_BUILD=1 takes only what is already built; OCISYNC_TEST_WORKERS is
# the number of test processes (2; each starts the servers that its tests need, a control plane too).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }
required() { [[ ${OCISYNC_REQUIRE_REAL:-} == 1 ]]; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "$python is older than Python 3.11: set PYTHON to a newer one"
  exit 1
}

# Debian packages for the container image tests. Only root can install them, and a person's machine is
# theirs: it is changed only where everything is required.
install_packages() {
  local wanted=() tool
  for tool in buildah debootstrap; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || wanted+=("$tool")
  done
  if ((${#wanted[@]} == 0)); then return; fi
  if required && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    # Lists that are in part older than the network's moment still do.
    "${apt[@]}" update || say "not every list of packages could be read"
    "${apt[@]}" install -y --no-install-recommends "${wanted[@]}" >/dev/null ||
      say "could not install ${wanted[*]}"
  else
    say "not here: ${wanted[*]} (Debian packages of these names); tests of the container image need them"
  fi
}

servers_log=$(mktemp)
builder=
cleanup() {
  if [[ -n $builder ]]; then kill "$builder" 2>/dev/null || true; fi
  rm -f "$servers_log"
}
trap cleanup EXIT

start_builds() {
  if [[ ${OCISYNC_SKIP_BUILD:-} == 1 ]]; then return; fi
  if command -v go >/dev/null; then
    say "building the real servers beside lint (does nothing when they are ready)"
    "$python" tests/servers/build.py all >"$servers_log" 2>&1 &
  else
    say "Go is not here: tests on a real Kubernetes, olareg and cosign need it once (tests/servers/README.md)"
    "$python" tests/servers/build.py distribution >"$servers_log" 2>&1 &
  fi
  builder=$!
}

wait_for_builds() {
  if [[ -z $builder ]]; then return; fi
  if ! wait "$builder"; then say "not every real server is ready"; fi
  builder=
  sed -e '/^go: downloading/d' -e 's/^/   /' "$servers_log" >&2
}

make_environment() {
  [[ -x .venv/bin/python ]] || "$python" -m venv .venv
  local stamp=.venv/.installed want
  want=$(cat pyproject.toml locks/dev.txt | sha256sum | cut -d' ' -f1)
  if [[ $(cat "$stamp" 2>/dev/null) != "$want" ]]; then
    say "installing ocisync and its tools into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    echo "$want" >"$stamp"
  fi
}

# A Debian base and wheels, so that tests build the image without a network. What is missing is said by them.
prepare_image() {
  if [[ ${OCISYNC_SKIP_BUILD:-} == 1 || $(id -u) != 0 ]]; then return; fi
  if ! PATH=$PATH:/usr/sbin:/sbin command -v debootstrap >/dev/null; then return; fi
  .venv/bin/python tests/servers/imageparts.py >/dev/null || say "the image's base or wheels are not ready"
}

failed=()
check() {
  say "$*"
  ".venv/bin/$1" "${@:2}" >&2 || failed+=("$1 ${2:-}")
}

install_packages
start_builds
make_environment
check ruff check .
check ruff format --check .
check mypy
check lint-imports --no-cache
prepare_image
wait_for_builds

if ((${#failed[@]})); then (IFS=,; say "FAILED before the tests: ${failed[*]}"); fi
say "pytest $*"
status=0
# loadgroup, without any groups: tests are handed out one by one, so that no process ends long before the others.
.venv/bin/python -m pytest -n "${OCISYNC_TEST_WORKERS:-2}" --dist loadgroup "$@" || status=$?
# Nothing is printed after pytest's closing line.
if ((status == 0 && ${#failed[@]})); then status=1; fi
exit "$status"
