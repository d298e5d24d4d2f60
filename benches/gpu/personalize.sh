#!/usr/bin/env bash
# The whole pipeline on digital twins, with the time of each stage, and a refinement's simulations alone.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
"$PYTHON" benches/gpu/personalize.py "backend=$BACKEND" "grid=$GRID" "tiny=$TINY" "folder=$OUT/twins" \
  "seconds=$(left 20)" "json=$OUT/personalize.json" "$@"
