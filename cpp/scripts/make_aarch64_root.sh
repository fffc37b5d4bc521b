#!/bin/sh
# Makes a folder with what 64-bit ARM programs need: to be linked with, and to run under qemu-user. Nothing is installed.
#
#   make_aarch64_root.sh DIR      then see cpp/cmake/toolchains/aarch64-linux-gnu.cmake
#   qemu-aarch64 -L DIR program
#
# The packages are Debian's for arm64, of this machine's release, so that they fit its cross compiler.
set -eu

target=${1:?usage: make_aarch64_root.sh DIR}
fail() { echo "error: $1" >&2; exit 3; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "no apt-get on this machine"

mkdir -p "$target"
target=$(cd "$target" && pwd)
[ -e "$target/complete" ] && exit 0

line=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | awk '$3 == "main"' | head -n 1)
[ -n "$line" ] || fail "apt knows no package mirror; run 'apt-get update' once, or check /etc/apt/sources.list"
mirror=${line%% *}
suite=$(. /etc/os-release; echo "$VERSION_CODENAME")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || fail "$keyring is missing; install debian-archive-keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
echo "deb [arch=arm64 signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
apt() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::Etc::SourceList="$work/sources.list" \
    -o Dir::Etc::SourceParts=/nonexistent -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
    -o Dir::Cache="$work/cache" -o Acquire::Languages=none "$@"
}
cd "$work"
case $suite in bookworm) ssl=libssl3 ;; *) ssl=libssl3t64 ;; esac
apt update >"$work/log" 2>&1 &&
  apt download libc6 libgcc-s1 libstdc++6 zlib1g "$ssl" libssl-dev nlohmann-json3-dev libstb-dev >>"$work/log" 2>&1 || {
  cat "$work/log" >&2
  fail "the packages of arm64 could not be fetched from the suite '$suite'"
}
for package in *.deb; do dpkg-deb -x "$package" "$target"; done
cp -R "$target/usr/include/aarch64-linux-gnu/." "$target/usr/include/"  # one folder of headers is enough for one machine

# Programs that ask the kernel what the processor can do find no answer under qemu: this is a Cortex-A72.
mkdir -p "$target/proc"
{
  for core in 0 1; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\n' "$core"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
  done
} > "$target/proc/cpuinfo"
: > "$target/complete"
