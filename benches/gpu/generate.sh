#!/usr/bin/env bash
# A data set of 100,000 samples on the local disk: short runs choose how many processes share the GPU, then it is made.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
"$PYTHON" benches/gpu/generate.py "backend=$BACKEND" "model=$MODEL" "grid=$GRID" "tiny=$TINY" "folder=$STORES" "seconds=$(left 20)" \
  "json=$OUT/generate.json" "$@"
