#!/usr/bin/env bash
# Use a head that you sculpted: open AVATAR/mesh/canonical.obj in any 3D program, move vertices (keep their
# number and order), save it as OBJ, and give it here. The next stages then use your shape.
#   bash examples/own_mesh.sh AVATAR SCULPTED.obj
set -euo pipefail
[[ $# == 2 ]] || { echo "Usage: bash examples/own_mesh.sh AVATAR SCULPTED.obj" >&2; exit 2; }
omega="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/omega"
"$omega" deform-flame "$1" --mesh "$2"
for stage in splat-uv decode render; do
    "$omega" "$stage" "$1"
done
"$omega" inspect "$1"
