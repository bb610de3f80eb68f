#!/usr/bin/env bash
# SFT, then DPO from its adapter, then the benchmark of all three, as a chain of jobs that depend on each other:
#   scripts/slurm/chain.sh qwen3-0.6b Qwen/Qwen3-0.6B
# A job that fails takes the rest of the chain with it. DRY_RUN=1 prints what would be submitted.
set -euo pipefail
name=${1:?usage: chain.sh CONFIG_NAME BASE_MODEL}
base=${2:?which base model, e.g. Qwen/Qwen3-0.6B}
cd "$(dirname "$0")/../.."
mkdir -p runs/slurm
submit() { # submit [sbatch options] script arguments -> job id
    if [ -n "${DRY_RUN:-}" ]; then echo "sbatch --parsable $*" >&2; echo 0; else sbatch --parsable "$@"; fi
}
sft=$(submit scripts/slurm/train.sbatch sft "configs/sft/$name.yaml")
dpo=$(submit --dependency="afterok:$sft" --kill-on-invalid-dep=yes scripts/slurm/train.sbatch dpo "configs/dpo/$name.yaml")
bench=$(submit --dependency="afterok:$dpo" --kill-on-invalid-dep=yes scripts/slurm/benchmark.sbatch \
    "runs/$name/benchmark" "$base" "runs/$name/sft" "runs/$name/dpo")
echo "sft $sft, dpo $dpo, benchmark $bench"
