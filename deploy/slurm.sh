#!/bin/bash
# Runs a seed sweep on Slurm nodes with 8 GPUs. All nodes share the checkout and its .venv. From the checkout:
#     sbatch --nodes=2 deploy/slurm.sh
# The job's exit code is the sweep's. The time limit stops the sweep; submit the job again to resume it.
#SBATCH --job-name=seedproof --nodes=1 --ntasks-per-node=1 --gpus-per-node=8 --exclusive --mem=0
#SBATCH --time=04:00:00 --signal=B:TERM@120 --no-kill --requeue
OUTPUT=sweeps/seq4096  # EDIT: the sweep directory. Relative paths, also of data/, start from the checkout
SWEEP=(--script trainer/train_gpt.py --recipe trainer/recipes/seq4096.toml --seeds 3 --sota 1.21613611)  # EDIT

set -u
cd "${SLURM_SUBMIT_DIR:?submit this file with sbatch}" || exit 2
export PATH="$PWD/.venv/bin:$PATH" SRUN_CPUS_PER_TASK="$SLURM_CPUS_ON_NODE" AWAIT_NODES="$SLURM_NNODES"
# other users share the network: without a secret any of them could run programs as you
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export SLURM_EXPORT_ENV=ALL # srun hands it on in the environment, which only you can read; a command line is public
port=$((20000 + SLURM_JOB_ID % 6000 * 2))
address=$(hostname):$port
temp=$(mktemp -u /tmp/seedproof.XXXXXXXX) # short, because Ray's sockets are below it
everywhere=(srun --overlap --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES")

end() {
    trap '' TERM INT
    # shellcheck disable=SC2046 # one word per job
    kill $(jobs -p) 2>/dev/null
    wait
    "${everywhere[@]}" rm -rf "$temp"
}
trap end EXIT
trap 'exit 143' TERM INT

if ! "${everywhere[@]}" mkdir -m 700 "$temp"; then # fails if somebody else has made it
    echo "Error: $temp cannot be made on every node." >&2
    exit 4
fi
srun --overlap --relative=0 --nodes=1 --ntasks=1 \
    ray start --head --port="$port" --ray-client-server-port=$((port + 1)) --include-dashboard=false \
    --temp-dir="$temp" --block &
others=$((SLURM_NNODES - 1))
if ((others)); then
    # shellcheck disable=SC2016 # expanded on the other nodes
    srun --overlap --relative=1 --nodes=$others --ntasks=$others --no-kill --kill-on-bad-exit=0 bash -c '
        until ray health-check --address "$0" &>/dev/null; do sleep 2; done
        exec ray start --address="$0" --temp-dir="$1" --block' \
        "$address" "$temp" &
fi

RAY_ADDRESS=$address bash deploy/sweep.sh "$OUTPUT" "${SWEEP[@]}" --gpus-per-run 8 &
sweep=$!
trap 'kill "$sweep" 2>/dev/null' TERM INT
while kill -0 "$sweep" 2>/dev/null; do
    wait "$sweep"
done
wait "$sweep" # its exit code, even if a signal interrupted the waiting
