#!/usr/bin/env bash
# rootfs.sh — build a minimal systemd + Nix root file system for nspawn "hosts".
#
#   rootfs.sh DEST [SUITE] [extra,packages]
#
# DEST   directory that will hold the tree (must not exist)
# SUITE  Debian suite: bookworm (Nix 2.8), trixie (Nix 2.26, default), sid (Nix 2.34)
#
# Only needs mmdebstrap and the Debian mirror. The host's libc is not touched:
# the newer Nix lives inside the tree.
# Check-Valid-Until is off because sid's index expires after a week and a test
# machine's mirror or clock may be off by more; signatures are still checked.
set -euo pipefail

dest=${1:?usage: rootfs.sh DEST [SUITE] [extra,packages]}
suite=${2:-trixie}
extra=${3:-}

[ ! -e "$dest" ] || { echo "rootfs: $dest exists already" >&2; exit 1; }

pkgs=systemd,systemd-sysv,libpam-systemd,dbus,nix-bin,git,iproute2,procps,bsdutils
[ -z "$extra" ] || pkgs=$pkgs,$extra

trap 'rm -rf --one-file-system "$dest"' EXIT

mmdebstrap --mode=root --variant=minbase --format=directory \
  --include="$pkgs" \
  --aptopt='Apt::Install-Recommends "false"' \
  --aptopt='Acquire::Languages "none"' \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$suite" "$dest" ${MIRROR:+"$MIRROR"}

# A host image without identity: every boot of a copy makes its own.
: >"$dest/etc/machine-id"
rm -f "$dest/var/lib/dbus/machine-id" "$dest/etc/hostname" "$dest/etc/resolv.conf"

# Nothing here may wait for hardware, a network manager or a login.
for u in getty@.service console-getty.service systemd-modules-load.service \
  systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-resolved.service; do
  ln -sfn /dev/null "$dest/etc/systemd/system/$u"
done
ln -sfn /usr/lib/systemd/system/multi-user.target "$dest/etc/systemd/system/default.target"

mkdir -p "$dest/nix/store" "$dest/nix/var/nix/profiles" "$dest/etc/nix"
cat >"$dest/etc/nix/nix.conf" <<'CONF'
experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
substitute = true
CONF

# NixOS-like boot: /boot is the host's own small file system, with the files of
# systemd-boot.
touch "$dest/etc/NIXOS"
mkdir -p "$dest/boot" "$dest/opt/npcnix"
cat >"$dest/lab-init" <<'INIT'
#!/bin/sh
# Stands for firmware, boot loader and initrd.
entry=$(sed -n 's/^default //p' /boot/loader/loader.conf 2>/dev/null)
init=$(sed -n 's/^options .*init=\([^ ]*\).*/\1/p' "/boot/loader/entries/$entry" 2>/dev/null)
[ -n "$init" ] && [ -x "$init" ] && exec "$init" "$@"
exec /usr/lib/systemd/systemd "$@"
INIT
chmod 0755 "$dest/lab-init"

trap - EXIT
du -sh "$dest" | sed 's/^/rootfs: /'
