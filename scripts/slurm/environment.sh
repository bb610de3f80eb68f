# Sourced by the sbatch files: the environment of a job. TOOLTUNE_SETUP is a line of your own, such as `module load cuda; conda activate x`;
# without it .venv is activated, and without that the job has the environment from which it was submitted.
if [ -n "${TOOLTUNE_SETUP:-}" ]; then
    eval "$TOOLTUNE_SETUP"
elif [ -f .venv/bin/activate ]; then
    source .venv/bin/activate
fi
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} # compute nodes often have no network; models come from the shared cache
export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
