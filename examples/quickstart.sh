#!/usr/bin/env bash
# See ocisync work, from nothing: makes a virtual environment, installs ocisync into it and runs the demo on the
# embedded registry and Kubernetes API. Needs Python ≥ 3.11 and git; no cluster, no container engine, no root.
#
#   ./examples/quickstart.sh              the whole story
#   ./examples/quickstart.sh --pause      wait for Enter after each step
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$python is older than Python 3.11: set PYTHON to a newer one" >&2
  exit 1
}
command -v git >/dev/null || {
  echo "git is not installed" >&2
  exit 1
}

environment=${OCISYNC_VENV:-.venv}
stamp=$environment/.quickstart
want=$(cat pyproject.toml locks/runtime.txt | sha256sum | cut -d' ' -f1)
if [[ ! -x $environment/bin/ocisync || $(cat "$stamp" 2>/dev/null) != "$want" ]]; then
  echo "Installing ocisync into $environment (once; about a minute) ..." >&2
  [[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/runtime.txt
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
  echo "$want" >"$stamp"
fi

"$environment/bin/ocisync" demo "$@"
command -v ocisync >/dev/null || echo "first: source $environment/bin/activate     (puts ocisync on your PATH)" >&2
