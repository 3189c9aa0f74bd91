# Stops the work of a node, once the run that is at work has ended: for the package's maintainer scripts, and for
# `p2p-update setup --remove`. POSIX sh; works without systemd and in a chroot.

wakers='p2p-update-advance.path p2p-update-advance.timer p2p-update-apply.path p2p-update-apply.timer'
services='p2p-update-advance.service p2p-update-apply.service'
units=/etc/systemd/system
cron=/etc/cron.d/p2p-update
# cron(8) passes over names with a dot.
cron_aside=$cron.p2p-update-stopped
# Lines "start UNIT" and "enable UNIT": postinst takes back what the scripts before it have stopped. On disk, so
# that `dpkg --configure -a` after a power cut knows it too.
record=/var/lib/p2p-update/stopped-by-package
apply_dir=$(grep -o '"applyDir": *"[^"]*"' /etc/p2p-update/config.json 2>/dev/null | cut -d '"' -f 4) || :
lock=${apply_dir:-/var/lib/p2p-update/apply}/apply.lock

say() { printf 'p2p-update: %s\n' "$*"; }

has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

remember() { # line
  [ -d "${record%/*}" ] || install -d -m 755 "${record%/*}"
  grep -qxF "$1" "$record" 2>/dev/null || printf '%s\n' "$1" >>"$record"
}

# The update that is being applied may be the one that installs this package: it ends after dpkg does.
is_inside_update() {
  grep -q '/p2p-update-apply\.service' /proc/self/cgroup 2>/dev/null && return 0
  pid=$$
  while [ "${pid:-0}" -gt 1 ]; do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'p2p-update\(\.cjs\)\{0,1\} \(apply\|reconcile\) $'; then
      return 0
    fi
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
  done
  return 1
}

is_running() {
  if has_systemd; then
    for unit in $services; do
      case $(systemctl show --property ActiveState --value "$unit" 2>/dev/null) in
        active | activating | deactivating | reloading) return 0 ;;
      esac
      case $(systemctl show --property Job --value "$unit" 2>/dev/null) in
        '' | 0) ;;
        *) return 0 ;;
      esac
    done
  fi
  # Started by cron, or by hand.
  [ -f "$lock" ] && ! flock --nonblock "$lock" true
}

# Lets no run of advance or apply begin, and waits for those at work: Puppet is never cut off. A message that
# comes meanwhile is kept by the handlers, as at any other time.
stop_and_wait() {
  if has_systemd; then
    for unit in $wakers; do
      if systemctl is-active --quiet "$unit"; then
        remember "start $unit"
        systemctl stop "$unit"
      fi
    done
  fi
  if [ -f "$cron" ]; then
    mv -f "$cron" "$cron_aside"
  fi
  is_inside_update && return 0
  said=
  while is_running; do
    [ -n "$said" ] || say 'waiting until the update that is at work has been applied'
    said=1
    sleep 1
  done
}
