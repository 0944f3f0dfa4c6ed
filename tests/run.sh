#!/usr/bin/env bash
# Sets up if needed and passes the tests. Arguments go to pytest:
#   bash tests/run.sh                  style, types, every quick test
#   bash tests/run.sh tests/head -x    one room
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash examples/setup.sh --test
if [[ $# == 0 ]]; then
    .venv/bin/ruff check .
    bash tests/typecheck.sh
fi
export PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
exec .venv/bin/python -m pytest "$@"
