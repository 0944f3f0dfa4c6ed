#!/usr/bin/env bash
# One avatar a task of a SLURM array; line N of PICTURES.txt is task N.
#   sbatch --array=1-"$(wc -l < pictures.txt)" examples/slurm_array.sh pictures.txt avatars/
# A task that is killed (time limit, preemption) leaves no half-written folder: submit the same again.
#SBATCH --job-name=omega
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=00:20:00
#SBATCH --output=omega-%A_%a.log
set -euo pipefail
[[ $# == 2 ]] || { echo "Usage: sbatch --array=1-N examples/slurm_array.sh PICTURES.txt OUT" >&2; exit 2; }
omega="${SLURM_SUBMIT_DIR:-$PWD}/.venv/bin/omega"
picture="$(sed -n "${SLURM_ARRAY_TASK_ID:-1}p" "$1")"
[[ -n "$picture" ]] || { echo "There is no line ${SLURM_ARRAY_TASK_ID:-1} in $1" >&2; exit 1; }
name="$(basename "${picture%.*}")"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-2}"
"$omega" generate "$picture" -o "$2/$name" --seed 0
