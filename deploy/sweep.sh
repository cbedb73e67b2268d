#!/bin/bash
# Every cluster here runs this:  bash deploy/sweep.sh DIRECTORY OPTION...
# It starts the sweep, or resumes it if DIRECTORY holds its plan: a job that is submitted again buys no seed twice.
# OPTIONs are those of `sweep run`. Relative paths start from the checkout. The exit code is the sweep's.
# If AWAIT_NODES is set, it waits until that many nodes have joined Ray.
cd "$(dirname "$0")/.." || exit 2
directory=${1:?the sweep directory comes first}
shift

joined='import os, sys, ray
ray.init(log_to_driver=False, logging_level="error")
sys.exit(sum(node["Alive"] for node in ray.nodes()) < int(os.environ["AWAIT_NODES"]))'
until [ -z "${AWAIT_NODES-}" ] || why=$(python -c "$joined" 2>&1); do
    if ((SECONDS >= 600)); then
        echo "Error: $AWAIT_NODES nodes have not joined Ray at $RAY_ADDRESS in ten minutes. ${why##*$'\n'}" >&2
        exit 4
    fi
    sleep 2
done

if [ ! -e "$directory/plan.json" ]; then
    exec python -m orchestration.sweep run --output "$directory" "$@"
fi
echo "$directory holds a plan: resuming it. Of the options, only those of sweep resume are used."
kept=()
while (($#)); do
    case ${1%%=*} in
        --keep-going | --smoke | --dashboard) kept+=("$1") ;;
        --stall-timeout | --deadline | --wait-for-nodes | --storage | --parallel | --max-gpu-hours | \
            --notify | --registry)
            kept+=("$1")
            [[ $1 == *=* ]] || { kept+=("${@:2:1}"); shift; }
            ;;
    esac
    shift
done
exec python -m orchestration.sweep resume "$directory" "${kept[@]}"
