#!/bin/sh
# Unpacks the headers of ONNX Runtime from Debian's package libonnxruntime-dev, without installing anything.
#
#   fetch_onnxruntime_headers.sh DIR      then configure with -DONNXRUNTIME_INCLUDE_DIR=DIR
#
# The C API is versioned: a program built with these headers runs with the same or any later ONNX Runtime. The mirror is
# the one this machine's apt uses. On another system, unpack a release archive of ONNX Runtime and set ONNXRUNTIME_ROOT.
set -eu

suite=${LINGLOS_DEBIAN_SUITE:-trixie}  # the first Debian release with the package
target=${1:?usage: fetch_onnxruntime_headers.sh DIR}
fail() { echo "error: $1" >&2; exit 3; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  fail "no apt-get on this machine; unpack a release archive of ONNX Runtime and set ONNXRUNTIME_ROOT"

mkdir -p "$target"
target=$(cd "$target" && pwd)
[ -e "$target/onnxruntime_c_api.h" ] && exit 0

mirror=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 'Created-By: Packages' | awk '$2 == "main" { print $1; exit }')
[ -n "$mirror" ] || fail "apt knows no package mirror; run 'apt-get update' once, or check /etc/apt/sources.list"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || fail "$keyring is missing; install debian-archive-keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
apt() {
  apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/nonexistent \
    -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
    -o Acquire::Languages=none "$@"
}
cd "$work"
apt update >"$work/log" 2>&1 && apt download libonnxruntime-dev >>"$work/log" 2>&1 || {
  cat "$work/log" >&2
  fail "libonnxruntime-dev could not be fetched from the suite '$suite'"
}
dpkg-deb -x libonnxruntime-dev_*.deb unpacked
header=$(find unpacked -name onnxruntime_c_api.h | head -n 1)
[ -n "$header" ] || fail "libonnxruntime-dev has no onnxruntime_c_api.h"
cp -R "$(dirname "$header")/." "$target/"
