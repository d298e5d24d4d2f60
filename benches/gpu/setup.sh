# shellcheck shell=bash
# Sourced by the scripts beside it: which Python, where results go, and that there is a GPU to measure.
#
# PYTHON       the interpreter (default: .venv/bin/python, or python3)
# OUT          folder for the results (default: results/gpu)
# STORES       folder for data sets, on a fast local disk (default: a folder in TMPDIR)
# SECONDS_MAX  what a script may take in all (default: 570, within a command of ten minutes)
# MODEL        fisher_kolmogorov (default) or mass_effect, for generate.sh, train.sh and evaluate.sh
# PACKED       a folder that pack.py made, for a machine without network
# LMI_TINY=1   tries the script itself: tiny sizes on the CPU, numbers that mean nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
OUT=${OUT:-results/gpu}
STORES=${STORES:-${TMPDIR:-/tmp}/learn-morph-infer-stores}
SECONDS_MAX=${SECONDS_MAX:-570}
MODEL=${MODEL:-fisher_kolmogorov}
BACKEND=cuda GRID=full TINY=false
if [ "${LMI_TINY:-0}" = 1 ]; then BACKEND=cpu GRID=quarter TINY=true; fi
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD:$PWD/benches${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${PACKED:-}" ]; then
  site=$STORES/packed
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$PACKED"/*.whl || exit 2
  export PYTHONPATH="$PYTHONPATH:$site:$PACKED/atlas"
fi
export OUT STORES BACKEND GRID TINY MODEL

"$PYTHON" - "$BACKEND" <<'END' || exit 2
import sys

from engine import InputError, load_anatomy
from engine.backends import choose_backend

try:
    choose_backend(sys.argv[1])
except InputError as error:
    print(f"error: {error} (LMI_TINY=1 tries this script on the CPU)", file=sys.stderr)
    sys.exit(1)
try:
    load_anatomy("sri24")
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
END
mkdir -p "$OUT" "$STORES"

# Makes a data set, or goes on with it, in at most as many seconds as the first argument says.
generate() {
  local seconds=$1
  shift
  timeout --signal=INT "$seconds" "$PYTHON" -m engine.generate "model=$MODEL" "grid=$GRID" "backend=$BACKEND" "$@" || {
    local status=$?
    if [ $status = 124 ]; then echo "error: the data set is not there after $seconds s: give fewer SAMPLES" >&2; fi
    exit $status
  }
}

# Seconds that are left, less what the rest of the script needs.
left() { echo $((SECONDS_MAX - SECONDS - $1 > 1 ? SECONDS_MAX - SECONDS - $1 : 1)); }
