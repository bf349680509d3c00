#!/bin/bash
#SBATCH --job-name=segpref-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00

# One training by all GPUs of all nodes:
#   sbatch train.sh align --data DATA --model runs/base --judge runs/judge --cache cache --out runs/tuned
set -euo pipefail

per_node=${SLURM_GPUS_ON_NODE:-1} # without GPUs one process on each node
mapfile -t nodes <<<"$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000)) # another for each job, so that jobs can share a node
export per_node head port OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / per_node))

# The line in quotes is run on each node, where SLURM_NODEID is its number.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --multi_gpu --mixed_precision no --dynamo_backend no \
  --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * per_node))" \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$head" --main_process_port "$port" \
  -m segpref.cli.main "$@"' segpref "$@"
