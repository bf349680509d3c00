#!/bin/bash
#SBATCH --job-name=segpref-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00

# A Ray cluster of all nodes for one command, which is given without --ray:
#   sbatch ray.sh predict --model runs/base --input pool.csv --output masks --gpus 1
#   sbatch ray.sh study --recipe mine.yaml --data DATA --out studies/mine --gpus 1
set -euo pipefail

mapfile -t nodes <<<"$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000)) # another for each job, so that jobs can share a node
others=$((SLURM_NNODES - 1))
each=(--block --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}")
export RAY_USAGE_STATS_ENABLED=0
# Nobody else on the network may use this cluster: a token of its own, which srun hands on.
RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

log=ray-$SLURM_JOB_ID.log

# Whatever ends this script ends Ray on all nodes.
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
# "until COMMAND" for as long as Ray runs.
wait_for() {
  until "$@" >>"$log" 2>&1; do
    [ "$(jobs -rp | wc -l)" = "$started" ] || { echo "Ray could not be started: see $log" >&2; exit 1; }
    sleep 1
  done
}

started=1
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --port "$port" --include-dashboard false "${each[@]}" >"$log" 2>&1 &
wait_for bash -c "exec 3<>/dev/tcp/$head/$port"
if [ "$others" -gt 0 ]; then
  started=2
  srun --overlap --nodes="$others" --ntasks="$others" --exclude="$head" \
    ray start --address "$head:$port" "${each[@]}" >>"$log" 2>&1 &
fi
# A command counts the nodes when it begins, so all have to be there.
wait_for python -c 'import sys, ray
ray.init(sys.argv[1], log_to_driver=False)
sys.exit(sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]))' "$head:$port" "$SLURM_NNODES"

segpref "$@" --ray "$head:$port"
