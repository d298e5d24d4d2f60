#!/usr/bin/env bash
# Trains on a data set made here first; given again with the same OUT it goes on after the last finished epoch. RESUME
# is a folder with what an earlier one left in OUT/train, where OUT is a new one.
# Arguments are those of learn.train, such as experiment=paper_joint epochs=60. SAMPLES sets the size of the data set, of
# which 80% are trained on: SAMPLES=100000 is the paper's 80,000, takes 19 GB of disk, and 87 GB of memory in training
# (cache_gb). Loader processes (workers) draw the masks, which one core does not do fast enough for a GPU; fresh= takes
# workers=0.
# shellcheck source-path=SCRIPTDIR source=setup.sh
. "$(dirname "$0")/setup.sh"
samples=20000 workers=(cluster=local cluster.per_device=4 cluster.dashboard=0) settings=(channels_last=true cache_gb=100 workers=8)
if [ "$TINY" = true ]; then
  GRID=half samples=40 workers=() settings=(epochs=2 network=small trainer.precision=32-true)
fi
if [ "$MODEL" = mass_effect ]; then samples=$((samples / 4)) settings+=(experiment=me_joint); fi
samples=${SAMPLES:-$samples}
store=$STORES/train-$MODEL-$GRID-$samples.zarr
if [ -n "${RESUME:-}" ] && [ ! -e "$OUT/train/last.ckpt" ]; then
  mkdir -p "$OUT/train"
  cp -r --no-preserve=mode "$RESUME"/. "$OUT/train"
fi
generate "$(left 200)" "samples=$samples" seed=1 shard=64 "out=$store" "${workers[@]}"
"$PYTHON" benches/gpu/train.py "seconds=$(left 30)" "tiny=$TINY" "out=$OUT/train" "json=$OUT/train.json" -- \
  "data=$store" "out=$OUT/train" "${settings[@]}" "$@"
