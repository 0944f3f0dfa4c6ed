#!/usr/bin/env bash
# Avatars of every picture in a folder; run again, it goes on where it stopped.
#   bash examples/batch.sh PICTURES OUT
set -euo pipefail
[[ $# == 2 ]] || { echo "Usage: bash examples/batch.sh PICTURES OUT" >&2; exit 2; }
omega="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/omega"
"$omega" generate "$1" -o "$2"
for avatar in "$2"/*/; do
    "$omega" inspect "$avatar"
done
