#!/usr/bin/env bash
# pyright over the packages as they are imported: kernels/ is omega_cli.kernels, weights/ omega_cli.weights.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"
# pyright itself comes from the npm registry at its first run; where that cannot be had, say so and go on.
if ! "$root/.venv/bin/pyright" --version >/dev/null 2>&1; then
    echo "pyright cannot start here (it needs the npm registry once): types are not checked" >&2
    exit 0
fi
rm -rf build/typed
mkdir -p build/typed
cp -rs "$root/omega_cli" build/typed/omega_cli
cp -rs "$root/kernels" build/typed/omega_cli/kernels
cp -rs "$root/weights" build/typed/omega_cli/weights
ln -s "$root/pyproject.toml" build/typed/pyproject.toml
ln -s "$root/.venv" build/typed/.venv
cd build/typed
"$root/.venv/bin/pyright" "$@"
