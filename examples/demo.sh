#!/usr/bin/env bash
# demo.sh DIR — three hosts from nothing to Ready, and on to a new revision.
#
# Prints every command before it runs it. Nothing outside DIR is changed but the
# Nix store: the hosts are directories, and --root refuses any system that is
# not marked for it.
set -euo pipefail
examples=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "${1:?usage: demo.sh DIR}")
hosts='web-1 web-2 db-1'

# run COMMAND… — print it as one would type it, and run it.
run() {
  printf '\n$'
  printf ' %q' "$@"
  echo
  "$@"
}

# reconcile HOST — one pass of the host's agent, its log in a file.
reconcile() {
  printf '\n$ npcnix-reconciler --once --host %s --root "$PWD/%s" 2>>%s.log\n' "$1" "$1" "$1"
  npcnix-reconciler --once --host "$1" --root "$PWD/$1" 2>>"$1.log"
}

rm -rf "$dir"
mkdir -p "$dir"
export NPCNIX_STORE=file://$dir/store
identity='GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org'
# shellcheck disable=SC2086,SC2163 # a list of assignments
export $identity

printf '# To repeat this by hand:\n'
printf 'rm -rf %q && mkdir -p %q && cd %q\n' "$dir" "$dir" "$dir"
cd "$dir"
printf 'export PATH=%q:$PATH\n' "$(dirname "$(command -v npcnix)")"
printf 'export %s\n' "$identity"
printf 'export NPCNIX_STORE=%q NIX_CONFIG=%q\n' "$NPCNIX_STORE" "${NIX_CONFIG:-}"

run cp -r "$examples/flake" "$examples/hosts" .
run git init -q flake
run git -C flake add .
run git -C flake commit -q -m 'Three hosts'

run npcnix push flake --remote demo
run npcnix apply -f hosts
for host in $hosts; do
  reconcile "$host"
done
run npcnix get hosts
run cat web-1/etc/motd

run sed -i s/service/pleasure/ flake/hosts/db-1.nix flake/hosts/web-1.nix flake/hosts/web-2.nix
run git -C flake commit -q -a -m 'Greet better'
run npcnix push flake --remote demo
for host in $hosts; do
  reconcile "$host"
done
run cat web-1/etc/motd
run npcnix get hosts
