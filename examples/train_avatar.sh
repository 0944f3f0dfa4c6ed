#!/usr/bin/env bash
# Trains the avatar networks whole on one machine: samples beside it, all three networks, then the refiner alone.
#   bash examples/train_avatar.sh RUN
# Settings, by environment (what the shipped weights had on a GPU with 16 cores):
#   WORKERS=13 MOST=750      processes that make samples, and how many of these
#   PROCESSES=4              training processes on the one GPU; 1 on a CPU
#   SECONDS_ALL=1050 SECONDS_REFINER=240
#   BLENDS= SHAPES= PORTRAITS= PAIRS=   packs of docs/avatar-network.md; without them generated people alone
#   PRESET=full DEVICE=cuda  tiny and cpu for a look
#   START=                   a run to go on from
set -euo pipefail
[[ $# == 1 ]] || { echo "Usage: bash examples/train_avatar.sh RUN" >&2; exit 2; }
run="$1"
python="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin/python"
mkdir -p "$run"

common=(--preset "${PRESET:-full}" --device "${DEVICE:-cuda}" --most "${MOST:-750}")
[[ -z "${BLENDS:-}" ]] || common+=(--blends "$BLENDS")
[[ -z "${SHAPES:-}" ]] || common+=(--shapes "$SHAPES")
[[ -z "${PORTRAITS:-}" ]] || common+=(--portraits "$PORTRAITS")
[[ -z "${PAIRS:-}" ]] || common+=(--pairs "$PAIRS")

# torchrun would take --start for its own option: the words go by a file
launcher="$run/launch.py"
cat >"$launcher" <<'PY'
import json, runpy, sys
sys.argv = json.load(open(sys.argv[1]))
runpy.run_module("omega_cli", run_name="__main__")
PY
omega() {
    "$python" -c 'import json, sys; json.dump(["omega", *sys.argv[2:]], open(sys.argv[1], "w"))' "$run/words.json" "$@"
    if [[ "${PROCESSES:-4}" == 1 ]]; then
        "$python" "$launcher" "$run/words.json"
    else
        "$python" -m torch.distributed.run --nproc-per-node "${PROCESSES:-4}" "$launcher" "$run/words.json"
    fi
}

OMP_NUM_THREADS=1 "$python" -m omega_cli train --stage avatar-samples --workers "${WORKERS:-13}" -o "$run/data" \
    "${common[@]}" >"$run/samples.log" 2>&1 &
makers=$!
trap 'kill "$makers" 2>/dev/null || true' EXIT

# each worker makes what is scored first, so by then it is there
until (($(find "$run/data/samples" -name '*.npz' 2>/dev/null | wc -l) >= ${WAIT_FOR:-64})); do
    kill -0 "$makers" 2>/dev/null || { tail -n 3 "$run/samples.log" >&2; exit 1; }
    sleep 1
done

start=()
[[ -z "${START:-}" ]] || start=(--start "$START")
training=(--workers 0 --data "$run/data" --wait-for "${WAIT_FOR:-64}" "${common[@]}")
omega train --stage avatar --seconds "${SECONDS_ALL:-1050}" --batch 1 --rate 5e-4 "${training[@]}" \
    -o "$run/avatar" ${start[@]+"${start[@]}"}
mkdir -p "$run/refiner"
cp "$run/avatar/base.json" "$run/refiner/" # the same base: it need not be scored again
omega train --stage refiner --seconds "${SECONDS_REFINER:-240}" --batch 4 --rate 8e-4 "${training[@]}" \
    --start "$run/avatar" -o "$run/refiner"
cat "$run/refiner/scores.jsonl"
