#!/usr/bin/env bash
# Use a head mesh that you sculpted: open AVATAR/mesh/canonical.obj in any 3D program, move vertices (keep
# their number and order), save it as OBJ, and give it here. The next stages then use your shape.
#   bash examples/own_mesh.sh AVATAR SCULPTED.obj
set -euo pipefail
[[ $# == 2 ]] || { echo "Usage: bash examples/own_mesh.sh AVATAR SCULPTED.obj" >&2; exit 2; }
root="$(dirname "${BASH_SOURCE[0]}")/.."
"$root/.venv/bin/python" - "$1" "$2" <<'PYTHON'
import sys
from pathlib import Path

from omega_cli.avatar import codecs, layout, record
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head

try:
    avatar = record.open_avatar(Path(sys.argv[1]))
    head = load_head()
    params = codecs.load_params(avatar.mesh / layout.FLAME)
    vertices = codecs.load_obj_vertices(Path(sys.argv[2]))
    if len(vertices) != len(head.v_template):
        raise OmegaError(f"{sys.argv[2]} has {len(vertices)} vertices, {len(head.v_template)} are needed.",
                         "Start from canonical.obj and keep the number and order of its vertices.")
    # Offsets are what the sculpture adds to the identity, before expression and pose.
    codecs.save_offsets(avatar.mesh / layout.OFFSETS, vertices - head.canonical(params.betas))
except OmegaError as error:
    sys.exit(f"Error: {error.message}\n  {error.hint}")
PYTHON
omega="$root/.venv/bin/omega"
for stage in splat-uv decode render; do
    "$omega" "$stage" "$1"
done
"$omega" inspect "$1"
