#!/usr/bin/env bash
# How fast the engine is, for both models, beside what the device's memory and arithmetic allow and beside the CPU.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
"$PYTHON" benches/gpu/simulate.py "backend=$BACKEND" "grid=$GRID" "tiny=$TINY" "json=$OUT/simulate.json" "$@"
