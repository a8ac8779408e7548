#!/bin/sh
# Puts a built library where the Go module links it from: header, archive, and build_id.h, whose
# constant changes with the archive. Go's build cache does not look into archives; the constant is
# what makes it link anew. Files that would not change are left alone, so nothing is rebuilt for it.
#
# usage: scripts/place-library.sh <cargo output folder, e.g. target/release>
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
archive=$1/libblocktier.a
ffi=$root/go/internal/ffi

case "$(uname -s)" in
    Linux) ;;
    *) echo "place-library: the library is for Linux; Go builds without it use the heap" >&2; exit 1 ;;
esac
case "$(uname -m)" in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) echo "place-library: no Go module folder for machine $(uname -m)" >&2; exit 1 ;;
esac

# Copies through a name beside the target, so that an interrupted copy is never linked.
place() {
    cmp -s "$1" "$2" && return
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

id=$(sha256sum "$archive" | cut -c1-64)
place "$archive" "$ffi/lib/linux_$arch/libblocktier.a"
place "$root/include/blocktier.h" "$ffi/blocktier.h"
new=$ffi/build_id.h.tmp
cat > "$new" <<END
/* Made by scripts/place-library.sh: the SHA-256 of the archive that is linked. */
#define BLOCKTIER_BUILD_ID "$id"
END
place "$new" "$ffi/build_id.h"
rm -f "$new"
echo "Go links $archive (build $(printf %.12s "$id"))"
