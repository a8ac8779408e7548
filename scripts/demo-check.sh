#!/usr/bin/env bash
# Checks what the demo needs before anything is built: tools, memory, disk. Says what is missing and
# how to get it, and how long the demo will take. Exits 1 if the demo cannot run.
#
#   scripts/demo-check.sh [TRANSACTIONS]     default 1000000
set -u

txs=${1:-1000000}
case $txs in
'' | *[!0-9]*)
	echo "demo-check: '$txs' is not a number of transactions" >&2
	exit 2
	;;
esac
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
missing=0

ok() { printf '  ok       %s\n' "$*"; }
warn() { printf '  note     %s\n' "$*"; }
fail() {
	printf '  MISSING  %s\n' "$1"
	shift
	for line in "$@"; do printf '           %s\n' "$line"; done
	missing=$((missing + 1))
}

# at_least HAVE WANT: compares versions such as 1.85.0.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The package manager's way to install a C compiler and make.
install_hint() {
	if command -v apt-get >/dev/null; then
		echo "install it: sudo apt-get install -y $1"
	elif command -v dnf >/dev/null; then
		echo "install it: sudo dnf install -y $2"
	elif command -v apk >/dev/null; then
		echo "install it: sudo apk add $3"
	elif command -v brew >/dev/null; then
		echo "install it: xcode-select --install"
	else
		echo "install it with the package manager of your system"
	fi
}

version_in() { sed -n "$2" "$root/$1" 2>/dev/null | head -n 1; }

check_rust() {
	want=$(version_in Cargo.toml 's/^rust-version *= *"\([0-9.]*\)".*/\1/p')
	: "${want:=1.85}"
	local how="install it: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
	if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
		fail "Rust $want or newer (cargo, rustc)" "$how"
		return
	fi
	have=$(rustc --version | awk '{print $2}')
	if at_least "${have%%-*}" "$want"; then
		ok "Rust $have"
	else
		fail "Rust $want or newer; this is $have" "update it: rustup update stable"
	fi
}

check_go() {
	want=$(version_in go/go.mod 's/^go *\([0-9.]*\).*/\1/p')
	: "${want:=1.26}"
	if ! command -v go >/dev/null; then
		fail "Go $want or newer" "install it: https://go.dev/doc/install"
		return
	fi
	have=$(go env GOVERSION | sed 's/^go//')
	if at_least "${have%%[-r]*}" "$want"; then
		ok "Go $have"
	else
		fail "Go $want or newer; this is $have" "install it: https://go.dev/doc/install"
	fi
	if [ "$(go env CGO_ENABLED)" != 1 ]; then
		fail "cgo is off" "turn it on: export CGO_ENABLED=1, with a C compiler in the path"
	fi
}

check_compiler() {
	local cc
	cc=$(go env CC 2>/dev/null || echo cc)
	if command -v "${cc%% *}" >/dev/null; then
		ok "C compiler $cc"
	else
		fail "a C compiler" "$(install_hint gcc gcc build-base)"
	fi
	if command -v make >/dev/null; then
		ok "make"
	else
		fail "make" "$(install_hint make make make)"
	fi
}

check_system() {
	case "$(uname -s)/$(uname -m)" in
	Linux/x86_64 | Linux/aarch64) ok "$(uname -s) $(uname -m)" ;;
	*) fail "Linux on x86_64 or aarch64; this is $(uname -s) on $(uname -m)" \
		"here only the Go-heap implementation runs: blocktier demo --heap" ;;
	esac
}

# Memory in MiB: the Go-heap run holds everything, and that is 700 bytes per transaction; building
# needs 1.5 GiB.
check_memory() {
	[ -r /proc/meminfo ] || return
	local need have limit
	need=$((txs * 700 / 1048576 + 300))
	[ "$need" -ge 1536 ] || need=1536
	have=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
	for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
		limit=$(cat "$file" 2>/dev/null) || continue
		case $limit in '' | *[!0-9]*) continue ;; esac
		[ "${#limit}" -gt 15 ] || [ $((limit / 1048576)) -ge "$have" ] || have=$((limit / 1048576))
	done
	if [ "$have" -ge "$need" ]; then
		ok "memory: $have MiB available, $need needed"
	else
		fail "memory: $have MiB available, $need needed" \
			"free some, or show a smaller block: build/blocktier demo --txs 200000"
	fi
}

# Disk in MiB: per transaction 170 bytes in the block's files, 170 in the map, 48 in subtrees; the
# build takes 2 GiB, the real blocks 200 MiB.
check_disk() {
	local need have
	need=$((txs * 400 / 1048576 + 2048 + 200))
	have=$(df -Pm "$root" | awk 'NR == 2 {print $4}')
	if [ "$have" -ge "$need" ]; then
		ok "disk: $have MiB free in $root, $need needed"
	else
		fail "disk: $have MiB free in $root, $need needed" "free some space there"
	fi
	case $(stat -f -c %T "$root" 2>/dev/null) in
	tmpfs | ramfs) warn "$root lies in RAM: what is written to disk stays in memory" ;;
	esac
}

check_data() {
	if [ -e "$root/tests/data/blocks/chain-0-9999.dat" ]; then
		ok "real blocks in tests/data"
	else
		fail "the real blocks in tests/data" "they belong to the repository: check it out whole"
	fi
}

check_network() {
	if [ -d "$root/vendor" ] || [ -d "${CARGO_HOME:-$HOME/.cargo}/registry/cache" ]; then
		return
	fi
	warn "the first build downloads its dependencies: it needs the network"
}

echo "What the demo needs:"
check_system
check_rust
check_go
check_compiler
check_memory
check_disk
check_data
check_network
if [ "$missing" -gt 0 ]; then
	echo "$missing missing; nothing was built."
	exit 1
fi
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
build=$((300 / cores + 30))
[ ! -e "$root/target/release/libblocktier.a" ] || build=30
run=$((20 + txs * 20 / 1000000))
echo "It takes about $(((build + 59) / 60)) min to build and $(((run + 59) / 60)) min to run, on" \
	"$cores cores. It can be interrupted and run again."
