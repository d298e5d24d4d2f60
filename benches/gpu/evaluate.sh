#!/usr/bin/env bash
# Scores weights on simulations that nobody trained on, and times the network. WEIGHTS: a file, folder or shipped name.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
samples=12000 workers=(cluster=local cluster.per_device=4 cluster.dashboard=0)
if [ "$TINY" = true ]; then GRID=half samples=8 workers=(); fi
name=fk_joint
if [ "$MODEL" = mass_effect ]; then samples=$((samples / 4)) name=me_joint; fi
weights=${WEIGHTS:-$OUT/train/${name}_$GRID.safetensors}
samples=${SAMPLES:-$samples}
store=$STORES/evaluate-$MODEL-$GRID-$samples.zarr
"$PYTHON" benches/gpu/evaluate.py "weights=$weights" "json=$OUT/evaluate.json"
generate "$(left 200)" "samples=$samples" seed=2 shard=64 "out=$store" "${workers[@]}"
timeout --signal=INT "$(left 30)" \
  "$PYTHON" -m learn.evaluate "data=$store" "weights=$weights" split=all "backend=$BACKEND" "out=$OUT/evaluate" "$@"
"$PYTHON" benches/gpu/evaluate.py "weights=$weights" "metrics=$OUT/evaluate/metrics.json" "json=$OUT/evaluate.json"
