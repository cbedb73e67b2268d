#!/bin/bash
# What every cluster here runs:  bash deploy/sweep.sh DIRECTORY OPTION...
# Makes the sweep, or goes on with it where DIRECTORY holds its plan: a job that is submitted again buys no seed twice.
# OPTIONs are those of `sweep run`. Relative paths start from the checkout. The exit code is the sweep's.
# AWAIT_NODES in the environment: so many nodes must have joined Ray before it starts.
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
echo "$directory holds a plan: going on with it. Of the options only those on how runs are looked after count."
care=()
while (($#)); do
    case ${1%%=*} in
        --max-attempts | --stall-timeout | --deadline | --wait-for-nodes | --storage | --parallel)
            care+=("$1")
            [[ $1 == *=* ]] || { care+=("${@:2:1}"); shift; }
            ;;
    esac
    shift
done
exec python -m orchestration.sweep resume "$directory" "${care[@]}"
