# The body of $toplevel/bin/switch-to-configuration. $toplevel, $lock, and the
# functions pre_switch_check and boot_loader are set above.
#
# The contract of NixOS' own program, as far as an agent can see it:
#   exit 0    done
#   exit 1    usage, not a NixOS host, a pre-switch check refused, or the boot
#             loader could not be installed; also some failures after activation
#   exit 2    the activation script failed (units are still handled)
#   exit 4    some unit failed, or waits to be restarted after a failure
#   exit 11   (or another errno) the lock is held: the Rust program does not wait
#   exit 100  the new init interface needs a reboot; nothing was activated
#
# - Order: lock, pre-switch checks (for every action; NIXOS_NO_CHECK=1 leaves
#   them out), boot loader for switch and boot, sync, init interface, units to
#   stop, "activating the configuration...", activate, reset-failed of
#   everything, daemon-reload, reload, restart, start, then a short wait for failures.
# - One of the pre-switch checks compares the switch inhibitors of what runs
#   with those of the new system, except for boot.
# - The messages "stopping the following units" and "activating the
#   configuration" are printed before anything of that kind is done, on stderr.
# - /run/current-system is linked by the last line of activate.
# - boot for a path in no profile keeps the default, and exits with 0.
# - A switch that was cut off leaves its lists in /run/nixos; the next goes on.
# - Units that are transient, or not of /etc/systemd/system, are left alone.
PATH=/usr/bin:/bin
action=$1
export NIXOS_ACTION="$action"
say() { printf '%s\n' "$*" >&2; }
join() { printf '%s' "$*" | sed 's/ /, /g'; }

case $action in
  switch | boot | test | dry-activate | check) ;;
  *) say "Usage: $0 [check|switch|boot|test|dry-activate]"; exit 1 ;;
esac
[ -f /etc/NIXOS ] || { say "This is not a NixOS installation!"; exit 1; }

mkdir -p /run/nixos
exec 9>>/run/nixos/switch-to-configuration.lock
if [ "$lock" = wait ]; then flock 9; else
  flock -n 9 || { say "Could not acquire lock"; exit 11; }
fi

inhibitors_agree() {
  case $action in boot) say "Not checking switch inhibitors (action = boot)"; return 0 ;; esac
  cmp -s /run/current-system/switch-inhibitors "$toplevel/switch-inhibitors" && return 0
  say "There are changes to critical components of the system"
  return 1
}
if [ "${NIXOS_NO_CHECK:-}" != 1 ]; then
  pre_switch_check && inhibitors_agree || { say "Pre-switch checks failed"; exit 1; }
fi
[ "$action" != check ] || exit 0

# Like systemd-boot's installer: kernels and an entry for each generation of
# the profile; the one that is this system becomes the default.
install_boot_loader() {
  boot_loader || return 1
  loader=/boot/loader
  mkdir -p $loader/entries /boot/EFI || return 1
  default=
  for link in /nix/var/nix/profiles/system-*-link; do
    [ -e "$link" ] || continue
    number=${link##*/system-}
    entry=nixos-generation-${number%-link}.conf
    generation=$(readlink -f "$link")
    kernel=$(readlink -f "$generation/kernel")
    copy=/boot/EFI/$(printf %s "${kernel#/nix/store/}" | tr / -)
    [ -e "$copy" ] || { cp "$kernel" "$copy.tmp" && mv "$copy.tmp" "$copy"; } || { rm -f "$copy.tmp"; return 1; }
    printf 'title NixOS\nlinux /EFI/%s\noptions init=%s/init loglevel=4\n' "${copy##*/}" "$generation" > "$loader/entries/$entry.tmp" &&
      mv "$loader/entries/$entry.tmp" "$loader/entries/$entry" || return 1
    [ "$generation" != "$toplevel" ] || default=$entry
  done
  [ -n "$default" ] || return 0
  printf 'timeout 5\ndefault %s\n' "$default" > $loader/loader.conf.tmp && mv $loader/loader.conf.tmp $loader/loader.conf || return 1
  # what belongs to no generation any more
  for entry in $loader/entries/*.conf; do
    number=${entry##*-}
    [ -e "/nix/var/nix/profiles/system-${number%.conf}-link" ] || rm -f "$entry"
  done
  for copy in /boot/EFI/*; do
    grep -qsF "/EFI/${copy##*/}" $loader/entries/*.conf || rm -f "$copy"
  done
}
case $action in
  boot | switch) install_boot_loader || { say "Failed to install bootloader"; exit 1; } ;;
esac
[ "${NIXOS_NO_SYNC:-}" = 1 ] || sync -f /nix/store
[ "$action" != boot ] || exit 0

if ! cmp -s /run/current-system/init-interface-version "$toplevel/init-interface-version"; then
  say "Warning: the new NixOS configuration has an 'init' that is incompatible with the current one."
  exit 100
fi

old=/run/current-system/etc/systemd/system
new=$toplevel/etc/systemd/system
lists=/run/nixos
is_unit() { case $1 in *.service | *.timer | *.socket | *.path | *.mount | *.target) return 0 ;; esac; return 1; }
flag() { grep -qx "$2" "$1"; }
# remember LIST UNIT… — so that a switch after one that was cut off goes on.
remember() { list=$1; shift; [ $# -eq 0 ] || printf '%s\n' "$@" >> "$lists/$list"; }
recall() { [ ! -e "$lists/$1" ] || sort -u "$lists/$1" | tr '\n' ' '; }

stop='' start='' restart='' reload='' skip=''
[ "$action" = dry-activate ] || { start=$(recall start-list); restart=$(recall restart-list); reload=$(recall reload-list); }
for f in "$old"/*; do
  u=${f##*/}
  is_unit "$u" && systemctl -q is-active "$u" || continue
  if [ ! -e "$new/$u" ]; then
    flag "$f" X-StopOnRemoval=false || stop="$stop $u"
    continue
  fi
  cmp -s "$f" "$new/$u" && continue
  if flag "$new/$u" X-ReloadIfChanged=true; then reload="$reload $u"
  elif flag "$new/$u" X-RestartIfChanged=false; then skip="$skip $u"
  elif flag "$new/$u" X-StopIfChanged=false; then restart="$restart $u"
  else stop="$stop $u"; start="$start $u"; fi
done
for f in "$new"/*.wants/*; do
  u=${f##*/}
  [ -e "$f" ] || continue
  systemctl -q is-active "$u" || start="$start $u"
done

if [ "$action" = dry-activate ]; then
  [ -z "$stop" ] || say "would stop the following units: $(join $stop)"
  [ -z "$skip" ] || say "would NOT stop the following changed units: $(join $skip)"
  say "would activate the configuration..."
  "$toplevel/dry-activate" "$toplevel"
  [ -z "$reload" ] || say "would reload the following units: $(join $reload)"
  [ -z "$restart" ] || say "would restart the following units: $(join $restart)"
  [ -z "$start" ] || say "would start the following units: $(join $start)"
  exit 0
fi

remember start-list $start
remember restart-list $restart
remember reload-list $reload
res=0
[ -z "$stop" ] || { say "stopping the following units: $(join $stop)"; systemctl stop -- $stop; }
[ -z "$skip" ] || say "NOT restarting the following changed units: $(join $skip)"
say "activating the configuration..."
"$toplevel/activate" "$toplevel" || { say "Failed to run activate script"; res=2; }
systemctl reset-failed
systemctl daemon-reload || exit 1
[ -z "$reload" ] || { say "reloading the following units: $(join $reload)"; systemctl reload -- $reload || res=4; }
rm -f $lists/reload-list
[ -z "$restart" ] || { say "restarting the following units: $(join $restart)"; systemctl restart -- $restart || res=4; }
rm -f $lists/restart-list
[ -z "$start" ] || { say "starting the following units: $(join $start)"; systemctl start -- $start || res=4; }
rm -f $lists/start-list

sleep 0.25 # events settle
failed=$(systemctl list-units --plain --no-legend --state=failed | cut -d' ' -f1 | tr '\n' ' ')
for u in $(systemctl list-units --plain --no-legend --type=service --state=auto-restart | cut -d' ' -f1); do
  [ "$(systemctl show -P ExecMainStatus "$u")" = 0 ] || failed="$failed $u"
done
if [ -n "$(printf %s "$failed" | tr -d ' ')" ]; then
  say "warning: the following units failed: $(join $failed)"
  systemctl status --no-pager --full $failed >&2
  res=4
fi
exit $res
