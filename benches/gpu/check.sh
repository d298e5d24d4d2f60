#!/usr/bin/env bash
# Is it right: every test that needs a GPU, GPU against CPU for both models, and the memory and race checkers.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
"$PYTHON" benches/gpu/check.py "backend=$BACKEND" "grid=$GRID" "tiny=$TINY" "seconds=$(left 20)" "json=$OUT/check.json" "$@"
