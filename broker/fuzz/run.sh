#!/bin/sh
# Fuzzes the codec on stable Rust: run.sh [seconds, 60 unless told] [further options of libFuzzer].
# Exits with 0 when nothing was found; a finding is kept in artifacts/ and can be run again with
#   target/fuzz/*/release/packet artifacts/FILE
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -eq 0 ] || shift
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz sets, without the sanitizer, which needs nightly. Apart from the seeds, which need none of it.
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"

mkdir -p artifacts corpus
cargo run --quiet --release --bin seeds --target-dir target/seeds -- corpus
RUSTFLAGS="$coverage" cargo build --quiet --release --bin packet --target "$host" --target-dir target/fuzz
"target/fuzz/$host/release/packet" -max_total_time="$seconds" -max_len=512 -artifact_prefix=artifacts/ \
    -print_final_stats=1 "$@" corpus
