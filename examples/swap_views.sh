#!/usr/bin/env bash
# Put your own six views (from another model, a studio, a paint program) in the place of ours.
#   bash examples/swap_views.sh AVATAR VIEWS
# VIEWS holds rgb/000.png 045 090 180 270 315 and, if you have them, normal/ and mask/ of the same names.
# 000 sees the face, 090 the subject's left ear; square, orthographic, elevation 0. docs/formats.md has more.
set -euo pipefail
[[ $# == 2 ]] || { echo "Usage: bash examples/swap_views.sh AVATAR VIEWS" >&2; exit 2; }
omega="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/omega"
"$omega" mv-diffuse "$1" --views "$2"
# What depends on the views is stale now; each stage can also be run by its own name.
"$omega" inspect "$1"
for stage in deform-flame splat-uv decode render; do
    "$omega" "$stage" "$1"
done
