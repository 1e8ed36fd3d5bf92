#!/bin/sh
# Fuzzes a target with the installed toolchain: fuzz/run.sh TARGET SECONDS
#
# fuzz/run.sh TARGET FILE runs one input, for example one that failed. New inputs that reach new
# code are kept in fuzz/corpus/TARGET. Exit: 0 nothing found, 2 wrong use, 3 not to be built,
# other: an input failed, and the command that repeats it was printed.
set -eu
cd "$(dirname "$0")/.."

targets='packet_decode event_batch topic_filter acl_file password_file websocket proxy peer_frame'

usage() {
    echo "usage: fuzz/run.sh TARGET SECONDS|FILE"
    echo "targets: $targets"
    exit 2
} >&2

[ $# = 2 ] || usage
target=$1
case " $targets " in *" $target "*) ;; *) usage ;; esac

# What cargo-fuzz would do, without it: the pass that counts edges and compares is in the stable
# compiler, too. With --target, build scripts are built without.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares'
build=${CARGO_TARGET_DIR:-fuzz/target}
build() {
    cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target-dir "$build" \
        --target "$host" "$@"
}
RUSTFLAGS="--cfg fuzzing $(echo $coverage)" build --bin "$target" || exit 3
# The seeds' writer has no counters, so it has a folder of its own.
cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target-dir "$build/seeds" \
    --bin seeds || exit 3
program=$build/$host/release/$target

if [ -e "$2" ]; then
    exec "$program" "$2"
fi
case $2 in '' | *[!0-9]*) usage ;; esac

corpus=fuzz/corpus/$target
artifacts=fuzz/artifacts/$target
mkdir -p "$corpus" "$artifacts"
"$build/seeds/release/seeds" "$target" "$corpus"

status=0
"$program" "$corpus" -max_total_time="$2" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
    -verbosity=0 -print_final_stats=1 -artifact_prefix="$artifacts/" || status=$?
if [ "$status" != 0 ]; then
    found=$(ls -t "$artifacts" | head -n 1)
    echo "an input failed; to run it again: fuzz/run.sh $target $artifacts/$found"
fi
exit "$status"
