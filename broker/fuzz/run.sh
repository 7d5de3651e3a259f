#!/bin/sh
# Fuzzes on stable Rust: run.sh [packet, session or websocket] [seconds, 60 unless told] [further options of libFuzzer].
# Exits with 0 when nothing was found; a finding is kept in artifacts/TARGET and can be run again with
#   target/fuzz/*/release/TARGET artifacts/TARGET/FILE
# What earlier runs found on their way stands in kept/TARGET.tar.gz and is run first. KEEP=1 after a long run: the fewest inputs
# that reach the same take its place.
set -eu
cd "$(dirname "$0")"
target=${1:-packet}
seconds=${2:-60}
shift $(($# < 2 ? $# : 2))
host=$(rustc -vV | sed -n 's/^host: //p')
case $target in
    packet) features=run longest=512 ;;
    session | websocket) features=run,$target longest=2048 ;;
    *) echo "no target $target: packet, session or websocket" >&2 && exit 64 ;;
esac

# What cargo-fuzz sets, without the sanitizer, which needs nightly. Apart from the seeds, which need none of it.
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"

mkdir -p "artifacts/$target" "corpus/$target"
if [ -e "kept/$target.tar.gz" ]; then tar -xzf "kept/$target.tar.gz" -C corpus; fi
cargo run --quiet --release --bin seeds --target-dir target/seeds -- corpus
RUSTFLAGS="$coverage" cargo build --quiet --release --bin "$target" --features "$features" --target "$host" --target-dir target/fuzz
if [ -n "${KEEP:-}" ]; then
    few=$(mktemp -d)
    trap 'rm -r "$few"' EXIT
    mkdir -p kept "$few/$target"
    "target/fuzz/$host/release/$target" -merge=1 -max_len="$longest" "$few/$target" "corpus/$target"
    tar -czf "kept/$target.tar.gz" -C "$few" --sort=name --mtime=@0 --owner=0 --group=0 "$target"
    exit
fi
"target/fuzz/$host/release/$target" -max_total_time="$seconds" -max_len="$longest" -rss_limit_mb=512 \
    -malloc_limit_mb=64 -artifact_prefix="artifacts/$target/" -print_final_stats=1 "$@" "corpus/$target"
