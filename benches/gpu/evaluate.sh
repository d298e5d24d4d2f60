#!/usr/bin/env bash
# Scores weights on simulations that nobody trained on, and times the network. WEIGHTS: a file, folder or shipped name.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
samples=12000 workers=(cluster=local cluster.per_device=4 cluster.dashboard=0)
if [ "$TINY" = true ]; then GRID=half samples=8 workers=(); fi
weights=${WEIGHTS:-$OUT/train/fk_joint_$GRID.safetensors}
samples=${SAMPLES:-$samples}
store=$STORES/evaluate-$GRID-$samples.zarr
"$PYTHON" -m engine.generate "samples=$samples" "grid=$GRID" "backend=$BACKEND" seed=2 shard=64 "out=$store" "${workers[@]}"
"$PYTHON" -m learn.evaluate "data=$store" "weights=$weights" split=all "backend=$BACKEND" "out=$OUT/evaluate" "$@"
"$PYTHON" benches/gpu/evaluate.py "weights=$weights" "metrics=$OUT/evaluate/metrics.json" "json=$OUT/evaluate.json"
