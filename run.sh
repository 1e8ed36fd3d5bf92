#!/bin/sh
# Builds LedgerMQ if needed and starts it: ./run.sh [arguments of ledgermq]
set -eu
cd "$(dirname "$0")"

missing=''
if ! command -v cargo >/dev/null 2>&1; then
    missing="$missing
  - a Rust toolchain (cargo, rustc): rustup from your distribution's packages or the Rust project"
fi
if ! command -v cc >/dev/null 2>&1; then
    missing="$missing
  - a C compiler (cc) and the C library's headers: on Debian, 'apt-get install build-essential'"
fi
if [ -n "$missing" ]; then
    echo "To build LedgerMQ, install first:$missing" >&2
    exit 3
fi

exec cargo run --release -- "$@"
