# The body of $toplevel/activate; $toplevel is set above this text. Like the
# real one: a snippet that fails is remembered and the next ones run, and the
# last line makes the system the current one.
PATH=/run/current-system/sw/bin:/usr/bin:/bin
status=0

# What runs is never garbage.
mkdir -p /nix/var/nix/gcroots
ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system

# /etc: like NixOS, /etc/static is the new tree and /etc/X -> /etc/static/X.
ln -sfn "$toplevel/etc" /etc/static
(cd /etc/static/ && find . ! -type d | sed 's|^\./||') | while read -r f; do
  mkdir -p "/etc/$(dirname "$f")"
  ln -sfn "/etc/static/$f" "/etc/$f"
done
# drop links whose target is gone
find /etc -xdev -type l -lname '/etc/static/*' | while read -r l; do
  [ -e "$l" ] || [ -L "$(readlink "$l")" ] || rm -f "$l"
done

# @activation@ the host's own snippet stands here
ln -sfn "$toplevel" /run/current-system
exit $status
