#!/usr/bin/env bash
# Makes .venv in the project's root with everything that omega needs: packages, native kernels, networks.
# Called by examples/quickstart.sh and tests/run.sh; quick when there is nothing to do.
#
#   bash examples/setup.sh            what running omega needs
#   bash examples/setup.sh --test     and what the tests need
#
# PYTHON=python3.12 chooses the interpreter (3.11 or 3.12).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "Error: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

extras=""
[[ "${1:-}" == "--test" ]] && extras="test"

supported='import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))'

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.12 python3.11 python3}; do
        if command -v "$candidate" >/dev/null && "$candidate" -c "$supported" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed${PYTHON:+ (PYTHON=$PYTHON is not it)}." \
        "On Debian or Ubuntu: ${sudo}apt-get install -y python3 python3-venv"
}

sudo=""
[[ "$(id -u)" == 0 ]] || sudo="sudo "

# --- the environment ------------------------------------------------------------------------------
if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -c "$supported" 2>/dev/null; then
    python="$(find_python)"
    say "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || {
        rm -rf .venv
        fail "Python cannot make an environment." \
            "On Debian or Ubuntu: ${sudo}apt-get install -y python3-venv"
    }
fi

# --- what pip cannot bring ------------------------------------------------------------------------
if ! missing="$(.venv/bin/python omega_cli/doctor/system_libraries.py)"; then
    fail "$(head -n 1 <<<"$missing")" "$(tail -n 1 <<<"$missing")" "and then this script again."
fi

# A machine with an NVIDIA GPU takes the index's torch with CUDA; any other takes the CPU build.
constraints=(-c constraints-cpu.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    constraints=()
    extras="${extras:+$extras,}cuda"
fi

# --- packages and kernels -------------------------------------------------------------------------
fingerprint() {
    { .venv/bin/python --version; echo "${constraints[*]:-gpu}"
      cat setup.py pyproject.toml constraints-cpu.txt kernels/build.py kernels/csrc/*; } |
        .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# The stamp lists the extras that were installed: the tests' set holds for plain use as well.
stamp=.venv/omega-setup
now="$(fingerprint)"
have="$(cat "$stamp" 2>/dev/null || true)"
if [[ "$have" == "$now $extras" || ( -n "$have" && "$have" == "$now test${extras:+,$extras}" ) ]]; then
    say "Packages: as they should be"
else
    say "Installing packages and building the kernels (some minutes the first time)"
    rm -f "$stamp"
    started=$SECONDS
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -e ".${extras:+[$extras]}" ${constraints[@]+"${constraints[@]}"} ||
        fail "pip could not install the packages (its message is above)." \
            "Check the network, or that pip knows a package index (pip config list); then run this again."
    echo "$now $extras" >"$stamp"
    say "Packages: installed in $((SECONDS - started)) s"
fi

# --- networks -------------------------------------------------------------------------------------
.venv/bin/omega weights fetch >/dev/null
