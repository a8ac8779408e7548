#!/usr/bin/env bash
# Runs the benchmark of the transaction map; arguments go to bench-txmap, see its -help. "full" as the first argument
# adds the runs of 100M entries. Needs the release library where the Go module links it.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" = full ]; then
    shift
    set -- -full 100000000 "$@"
fi
if [ ! -e "go/internal/ffi/lib/linux_$(go env GOARCH)/libblocktier.a" ]; then
    echo "run.sh: no libblocktier.a where go/internal/ffi links it; build the library first" >&2
    exit 1
fi
limits=$(cargo bench --no-run --quiet --bench limits --message-format=json |
    sed -n 's/.*"name":"limits".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
mkdir -p target/bench target/bench/data
(cd go/bench && go build -o ../../target/bench/bench-txmap ./cmd/bench-txmap)
exec target/bench/bench-txmap -limits "$limits" -dir target/bench/data "$@"
