# shellcheck shell=bash
# Shared by the benchmark scripts in this folder: builds in release mode and finds the peers.

target=${CARGO_TARGET_DIR:-target}
# shellcheck disable=SC2034 # Used by the scripts that read this file.
bench=$target/release/tidemark-bench

prepare() { # prepare BINARY...: builds these binaries and the benchmark, exports PEER_* variables
    local binary arguments=(--bin tidemark-bench)
    for binary in "$@"; do
        arguments+=(--bin "$binary")
    done
    if [ -z "${TIDEMARK_BENCH_NO_BUILD:-}" ]; then
        cargo build --release --locked --quiet "${arguments[@]}"
    fi
    local peers
    peers=$(scripts/peers) || echo "bench: peers are missing, see above" >&2
    set -a
    eval "$peers"
    set +a
}
