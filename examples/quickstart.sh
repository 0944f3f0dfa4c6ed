#!/usr/bin/env bash
# From nothing to a driven avatar: sets up, makes an avatar of a public-domain portrait (astronaut Eileen
# Collins, NASA), a turntable, and drives it with examples/driver.mp4.
#
#   bash examples/quickstart.sh [OUT]      OUT: where results go (default: out/quickstart)
set -euo pipefail
out="${1:-}"
[[ -z "$out" || "$out" == /* ]] || out="$PWD/$out"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${out:-out/quickstart}"

bash examples/setup.sh
omega=.venv/bin/omega

photo="$("$omega" weights path astronaut)"
mkdir -p "$out"
"$omega" generate "$photo" -o "$out/avatar"
"$omega" reenact "$out/avatar" examples/driver.mp4 -o "$out/driven.mp4"
"$omega" inspect "$out/avatar"

cat <<TEXT

Look at:
  $out/avatar/renders/turntable/video.mp4   all around
  $out/avatar/renders/turntable/sheet.png   the same as one picture
  $out/driven.mp4                           driven by examples/driver.mp4
  $out/avatar/gaussians/canonical.ply       opens in any 3D Gaussian viewer

With your own picture and film:
  $omega generate face.jpg -o avatar/
  $omega reenact avatar/ driver.mp4 -o out.mp4
TEXT
