#!/usr/bin/env bash
# Fuzzes every parser of subtrees, guided by coverage, under the address sanitizer.
#
#   scripts/fuzz.sh [SECONDS]       each target for so long, 60 by default
#   scripts/fuzz.sh runs N          each target N inputs, the same ones every time
#
# Starts from the files of tests/data; what it finds on the way is kept in target/fuzz/corpus for
# the next time. An input that fails is left in target/fuzz/failed, with the command that runs it
# again. Needs a C++ compiler, for libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."

out=target/fuzz
corpus=$out/corpus
case "${1:-60}" in
runs)
    limit=("-runs=${2:?how many runs?}" -seed=1)
    corpus=$out/corpus-of-runs
    rm -rf "$corpus"
    ;;
*[!0-9]*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
*) limit=("-max_total_time=${1:-60}") ;;
esac
if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "fuzz.sh: no C++ compiler; install one, or name it in CXX" >&2
    exit 1
fi
machine=$(uname -m)
target=$machine-unknown-linux-gnu
if ! ls "$(rustc --print sysroot)/lib/rustlib/$target/lib/"librustc*_rt.asan.a >/dev/null 2>&1; then
    echo "fuzz.sh: this Rust has no address sanitizer for $target" >&2
    exit 1
fi

# Sanitizers and coverage are unstable options of a stable compiler.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address $coverage --cfg fuzzing" \
    cargo build --release --manifest-path fuzz/Cargo.toml --target "$target" --target-dir "$out"

mkdir -p "$out/seeds" "$out/failed"
cp tests/data/bad/*.subtree tests/data/bad/*.hashes tests/data/derived/b171-0* "$out/seeds"
cp tests/data/derived/block-384188-c1024-00.* tests/data/proofs/*.proof "$out/seeds"

printf '\n| target | runs | runs/s | coverage | corpus | peak MiB |\n| - | -: | -: | -: | -: | -: |\n'
status=0
for name in view reader meta proof abi; do
    mkdir -p "$corpus/$name"
    log=$out/$name.log
    # A single allocation of more than 16 MiB is a failure, too: inputs have at most 64 KiB.
    if "$out/$target/release/$name" "${limit[@]}" -max_len=65536 -timeout=20 -malloc_limit_mb=16 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$out/failed/$name-" \
        "$corpus/$name" "$out/seeds" >"$log" 2>&1; then
        awk -v name="$name" '
            /cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1)
                                                 if ($i == "corp:") corp = $(i + 1) } }
            /stat::number_of_executed_units/ { runs = $2 }
            /stat::average_exec_per_sec/ { rate = $2 }
            /stat::peak_rss_mb/ { peak = $2 }
            # No rate of less than a second.
            END { printf "| %s | %d | %s | %d | %s | %d |\n", name, runs, rate ? rate : "-", cov,
                         corp, peak }' "$log"
    else
        status=1
        echo "| $name | FAILED | | | | |"
        grep -E "panicked|ERROR|SUMMARY|Test unit written" "$log" | head -n 5 || tail -n 5 "$log"
        echo "run it again: $out/$target/release/$name FILE; all that it said is in $log"
    fi
done
exit $status
