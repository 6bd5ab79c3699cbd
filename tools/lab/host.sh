#!/usr/bin/env bash
# host.sh — throw-away systemd hosts on a machine whose PID 1 is not systemd.
#
#   host.sh network                    make the bridge
#   host.sh up NAME ROOTFS [INIT]      boot a copy-on-write copy of ROOTFS
#   host.sh exec NAME CMD…        run a command inside (all namespaces)
#   host.sh ip NAME               print the host's address
#   host.sh wait NAME [SECONDS]   wait until systemd is up (running/degraded)
#   host.sh boots NAME            how often it booted
#   host.sh leader NAME           pid of its PID 1 as this machine sees it
#   host.sh crash NAME            cut the power (SIGKILL); `up` boots it again
#   host.sh cut|join NAME         unplug / plug in its network cable
#   host.sh down NAME             power off, unmount, remove
#   host.sh down-all
#
# PROGRAMS, a directory, is /opt/npcnix of each host. /boot is a small file system
# of its own (BOOT_SIZE, 1m) that outlives power cuts.
# Each host has its own overlay (upper dir under $LAB), cgroup v2 subtree, network
# namespace and an address on the bridge labbr0 (this machine is 10.77.0.1).
# INIT is the program run as PID 1 (default: the NixOS-like /lab-init).
# `reboot` inside really reboots: nspawn ends the container and starts it again,
# with a new boot_id, over the same upper dir.
set -euo pipefail
LAB=${LAB:-${TMPDIR:-/tmp}/lab-hosts}
NET=${NET:-10.77.0}
BR=${BR:-labbr0}
# Two labs on one machine: give each its own LAB, NET and BR; names below carry a tag of LAB.
TAG=$(printf %s "$LAB" | cksum | cut -c1-4)

die() { echo "host: $*" >&2; exit 1; }
alive() { [ -s "$LAB/$1/pid" ] && kill -0 "$(cat "$LAB/$1/pid")" 2>/dev/null; }

network() {
  ip link show "$BR" >/dev/null 2>&1 || {
    ip link add "$BR" type bridge
    ip addr add "$NET.1/24" dev "$BR"
    ip link set "$BR" up
  }
}

net_up() { # NAME -> address
  local name=$1 n=2 veth
  network
  until mkdir "$LAB/.ip.$n" 2>/dev/null; do n=$((n + 1)); done # atomic
  veth="lab$TAG-$n"
  ip netns add "lab$TAG-$name"
  ip link add "$veth" type veth peer name host0 netns "lab$TAG-$name"
  ip link set "$veth" master "$BR" up
  ip -n "lab$TAG-$name" addr add "$NET.$n/24" dev host0
  ip -n "lab$TAG-$name" link set host0 up
  ip -n "lab$TAG-$name" link set lo up
  ip -n "lab$TAG-$name" route add default via "$NET.1"
  echo "$n" >"$LAB/$name/n"
  echo "$NET.$n" >"$LAB/$name/ip"
}

up() {
  local name=$1 rootfs dir init
  rootfs=$(realpath "$2"); dir=$LAB/$name; init=${3:-/lab-init}
  ! alive "$name" || die "$name is up already"
  mkdir -p "$dir"/{upper,work,root,boot}
  mountpoint -q "$dir/boot" || mount -t tmpfs -o "size=${BOOT_SIZE:-1m}" tmpfs "$dir/boot"
  [ -e "$dir/ip" ] || net_up "$name"
  mountpoint -q "$dir/root" ||
    mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
  [ -L "$dir/root/etc/hostname" ] || echo "$name" >"$dir/root/etc/hostname" # a system may have linked its own
  touch "$dir/console.log" "$dir/boots"
  # A new mount namespace with a pure cgroup v2 tree, whatever the machine uses:
  # systemd 256 and later refuse cgroup v1.
  setsid unshare --mount --propagation private bash -c '
    set -eu
    name=$1 dir=$2 init=$3 TAG=$4 programs=$5
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p "/sys/fs/cgroup/lab$TAG-$name"
    echo $$ >"/sys/fs/cgroup/lab$TAG-$name/cgroup.procs"
    while :; do
      date +%s.%N >>"$dir/boots"
      rc=0
      SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet \
        --directory="$dir/root" --bind="$dir/boot:/boot" ${programs:+--bind-ro="$programs:/opt/npcnix"} --machine="$name" --register=no --keep-unit \
        --network-namespace-path="/run/netns/lab$TAG-$name" --resolv-conf=off --timezone=off \
        --link-journal=no --console=pipe --kill-signal=SIGRTMIN+3 \
        --capability=all --setenv=container=systemd-nspawn "$init" >>"$dir/console.log" 2>&1 </dev/null || rc=$?
      echo "host: nspawn ended with $rc" >>"$dir/console.log"
      [ "$rc" = 133 ] || exit "$rc"
    done' host "$name" "$dir" "$init" "$TAG" "${PROGRAMS:-}" >/dev/null 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

leader() { # pid of the container's PID 1
  local sup p
  alive "$1" || return 1
  sup=$(pgrep -P "$(cat "$LAB/$1/pid")" -x systemd-nspawn) || return 1
  for p in $(pgrep -P "$sup"); do
    # the stub between them has the same name until it execs
    [ "$(awk '/^NSpid:/{print NF}' "/proc/$p/status" 2>/dev/null)" = 3 ] && { echo "$p"; return 0; }
  done
  return 1
}

enter() {
  local name=$1 pid child watch rc=0; shift
  pid=$(leader "$name") || die "$name is not running"
  # A system that goes down stops every process for a moment. nsenter stops with
  # its own then, nobody continues it, and what it has not reaped keeps the
  # container from ending.
  nsenter -t "$pid" -m -u -i -n -p -C -r -w env -i PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root TERM=dumb "$@" <&0 &
  child=$!
  (while sleep 1; do
    case $(awk '/^State:/{print $2}' "/proc/$child/status" 2>/dev/null) in
    T) kill -CONT "$child" ;;
    '' | Z) exit ;;
    esac
  done) </dev/null >/dev/null 2>&1 &
  watch=$!
  wait "$child" || rc=$?
  kill "$watch" 2>/dev/null || true
  return "$rc"
}

wait_up() {
  local name=$1 end s; end=$((SECONDS + ${2:-60}))
  while [ $SECONDS -lt $end ]; do
    s=$( (enter "$name" systemctl is-system-running) 2>/dev/null || true)
    case $s in running|degraded) echo "$s"; return 0 ;; esac
    sleep 0.1
  done
  tail -20 "$LAB/$name/console.log" >&2
  die "$name is not up (state: ${s:-none})"
}

crash() {
  local name=$1 pid sup
  pid=$(cat "$LAB/$name/pid")
  sup=$(leader "$name") && kill -KILL "$sup"
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  die "$name is still there"
}

link() { ip link set "lab$TAG-$(cat "$LAB/$1/n")" "$2"; }

down() {
  local name=$1 dir=$LAB/$1 pid n
  if alive "$name"; then
    pid=$(cat "$dir/pid")
    (enter "$name" systemctl poweroff --force) >/dev/null 2>&1 || true
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -0 "$pid" 2>/dev/null && { pkill -KILL -P "$pid" || true; kill -KILL "$pid" 2>/dev/null || true; }
  fi
  umount -R "$dir/root" 2>/dev/null || umount -lR "$dir/root" 2>/dev/null || true
  umount "$dir/boot" 2>/dev/null || umount -l "$dir/boot" 2>/dev/null || true
  ip netns del "lab$TAG-$name" 2>/dev/null || true
  n=$(cat "$dir/n" 2>/dev/null || true)
  [ -z "$n" ] || { ip link del "lab$TAG-$n" 2>/dev/null || true; rmdir "$LAB/.ip.$n" || true; }
  for c in /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -d "$c/lab$TAG-$name" ] && find "$c/lab$TAG-$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf --one-file-system "$dir"
}

mkdir -p "$LAB"
cmd=${1:?usage: host.sh network|up|exec|ip|wait|boots|leader|crash|cut|join|down|down-all …}; shift
case $cmd in
  network) network ;;
  up) up "$@" ;;
  exec) enter "$@" ;;
  ip) cat "$LAB/$1/ip" ;;
  wait) wait_up "$@" ;;
  boots) wc -l <"$LAB/$1/boots" ;;
  leader) leader "$@" ;;
  crash) crash "$@" ;;
  cut) link "$1" down ;;
  join) link "$1" up ;;
  down) down "$@" ;;
  down-all)
    for d in "$LAB"/*/; do [ -d "$d" ] && down "$(basename "$d")"; done
    ip link del "$BR" 2>/dev/null || true ;;
  *) die "unknown command $cmd" ;;
esac
