#!/bin/sh
# Trains on several machines without a scheduler. On each of them, in its copy of this project:
#
#   MACHINES=2 PROCESSES=8 scripts/torchrun.sh <number of the machine, from 0> <address of machine 0> <words>
#
# <words> are those of train.py, the same on every machine. See docs/clusters.md.
set -eu
number=$1 first=$2
shift 2
: "${MACHINES:=2}" "${PROCESSES:=1}" "${PORT:=29500}" "${RESTARTS:=0}"
exec python -m torch.distributed.run \
  --nnodes="$MACHINES" --nproc-per-node="$PROCESSES" --node-rank="$number" \
  --master-addr="$first" --master-port="$PORT" --max-restarts="$RESTARTS" \
  train.py trainer="${TRAINER:-multi_node}" \
  trainer.num_nodes="$MACHINES" trainer.devices="$PROCESSES" "$@"
