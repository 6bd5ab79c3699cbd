# The body of $toplevel/bin/switch-to-configuration; $toplevel is set above.
#
# Keeps the contract of NixOS' program below $NPCNIX_ROOT, without units:
#   exit 0    done
#   exit 1    usage, or no root to activate below
#   exit 2    the activation script failed
#   exit 4    some unit failed to start
#   exit 100  only a reboot can start this system; nothing was activated
PATH=/usr/bin:/bin
say() { printf '%s\n' "$*" >&2; }
action=$1
root=${NPCNIX_ROOT:-}
[ -n "$root" ] || { say "this is a demonstration system: it is activated below --root only"; exit 1; }

case $action in
  test | boot | switch | dry-activate) ;;
  *) say "Usage: $0 [switch|boot|test|dry-activate]"; exit 1 ;;
esac

# Replace a file or link as a whole, never leaving a half.
link() { ln -sfn "$1" "$2.new" && mv -T "$2.new" "$2"; }

# Like systemd-boot's installer: an entry for each generation of the profile,
# and the one that is this system becomes the default. A system in no
# generation changes nothing, and that is no error.
install_boot_loader() {
  loader=$root/boot/loader
  mkdir -p "$loader/entries"
  for generation in "$root"/nix/var/nix/profiles/system-*-link; do
    [ -e "$generation" ] || continue
    number=${generation##*/system-}
    entry=nixos-generation-${number%-link}.conf
    system=$(readlink -f "$generation")
    printf 'title NixOS\noptions init=%s/init loglevel=4\n' "$system" > "$loader/entries/$entry.new"
    mv "$loader/entries/$entry.new" "$loader/entries/$entry"
    [ "$system" != "$toplevel" ] || default=$entry
  done
  [ -z "${default:-}" ] || {
    printf 'timeout 5\ndefault %s\n' "$default" > "$loader/loader.conf.new"
    mv "$loader/loader.conf.new" "$loader/loader.conf"
  }
}

case $action in boot | switch) install_boot_loader || exit 1 ;; esac
[ "$action" != boot ] || exit 0

current=$root/run/current-system
if [ -e "$current" ] && ! cmp -s "$current/init-interface-version" "$toplevel/init-interface-version"; then
  say "the init interface differs: nothing is activated, reboot to use this system"
  exit 100
fi
[ "$action" != dry-activate ] || { say "would activate the configuration..."; exit 0; }

result=0
say "activating the configuration..."
mkdir -p "$root/run" "$root/etc"
"$toplevel/activate" || result=2
cp "$toplevel/etc/motd" "$root/etc/motd"
link "$toplevel" "$current"

failed=$(cat "$toplevel/failed-units")
[ -z "$failed" ] || { say "warning: the following units failed: $failed"; [ "$result" != 0 ] || result=4; }
exit $result
