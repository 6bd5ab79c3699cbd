#!/bin/sh
# packages.sh PACKAGE:WITNESS… — install the Debian packages whose witness, a
# command or a file, is not there.
set -eu

missing=
for pair in "$@"; do
  package=${pair%%:*} witness=${pair#*:}
  case $witness in
    /*) [ -e "$witness" ] || missing="$missing $package" ;;
    *) command -v "$witness" >/dev/null 2>&1 || missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "npcnix: this needs$missing. As root on Debian: apt-get install$missing" >&2
  exit 1
fi
echo "npcnix: installing$missing" >&2
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
rm -f "$log"
