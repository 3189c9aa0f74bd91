# Takes back what set-up has made on this machine. POSIX sh, after stop.sh; for `p2p-update setup --remove`, and for the
# package's postrm, when the program is gone.

pids_of() { # program
  find -L /proc/[0-9]*/exe -maxdepth 0 -samefile "$1" 2>/dev/null | cut -d / -f 3
}

# Stops a daemon that runs; fails when there is none. By service(8), not invoke-rc.d(8): that one starts nothing where
# no init system runs, and this starts again just what it has stopped.
stop_daemon() { # service, program
  if has_systemd; then
    systemctl is-active --quiet "$1.service" || return 1
    systemctl stop "$1.service"
    return 0
  fi
  [ -n "$(pids_of "$2")" ] || return 1
  service "$1" stop >/dev/null 2>&1 || :
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$(pids_of "$2")" ] || return 0
    sleep 1
  done
  # Started by other means than its init script.
  return 1
}

start_daemon() { # service
  if has_systemd; then
    systemctl start "$1.service" || say "could not start $1: systemctl start $1"
  else
    service "$1" start >/dev/null 2>&1 || say "could not start $1: service $1 start"
  fi
}

# Directories that the configuration has elsewhere: their parents are not this package's.
name_other_directories() {
  grep -o '"\(stateDir\|applyDir\|deliveryDir\|publishDir\)": *"[^"]*"' /etc/p2p-update/config.json 2>/dev/null |
    while IFS='"' read -r _ _ _ directory _; do
      case $directory in
        /var/lib/p2p-update/*) ;;
        *) say "left as it is: $directory" ;;
      esac
    done
}

# Transmission writes the whole file when it ends. Edited as the daemon's user, which can replace it at any time.
forget_hook() {
  # The hook of set-up, or the handler that Debian 12 can have for one; 3.00 writes \/ for each slash.
  hook='"\(\\\{0,1\}/etc\\\{0,1\}/p2p-update\\\{0,1\}/transmission-done\|\\\{0,1\}/usr\\\{0,1\}/lib\\\{0,1\}/p2p-update\\\{0,1\}/dist\\\{0,1\}/handlers\\\{0,1\}/transmission-done\.cjs\)"'
  own_login='"rpc[-_]username": *"p2p-update"'
  settings=/etc/transmission-daemon/settings.json
  if ! [ -f "$settings" ] || ! grep -q -e "$hook" -e "$own_login" "$settings"; then
    return 0
  fi
  # A password of set-up's own is that of Debian's package again, or the next set-up would take it for a person's.
  login=
  if grep -q "$own_login" "$settings"; then
    login='/"rpc[-_]\(username\|password\)"/s/: *"[^"]*"/: "transmission"/'
  fi
  ran=
  ! stop_daemon transmission-daemon /usr/bin/transmission-daemon || ran=1
  if ! runuser -u debian-transmission -- sed -i \
    -e "/script[-_]torrent[-_]done[-_]filename\"/s#$hook#\"\"#" \
    -e 's/\(script[-_]torrent[-_]done[-_]enabled": *\)true/\1false/' -e "$login" "$settings"; then
    say "take the hook out of $settings by hand: script-torrent-done-filename"
  fi
  if [ -n "$ran" ]; then
    start_daemon transmission-daemon
  else
    # One that could not be stopped reads its settings again, and so does not write the hook back when it ends.
    for pid in $(pids_of /usr/bin/transmission-daemon); do
      kill -s HUP "$pid" || :
    done
  fi
}

# Takes out the user of set-up: between its marker lines, or the three lines of docs/setup.md, wherever they are.
forget_serf_user() {
  defaults=/etc/default/serf
  if ! grep -q p2p-update "$defaults" 2>/dev/null; then
    return 0
  fi
  if grep -qx '# p2p-update end' "$defaults"; then
    sed -i '/^# p2p-update begin$/,/^# p2p-update end$/d' "$defaults"
  fi
  # Another umask than that of the lines is somebody else's.
  sed -i -e '/^GROUP=p2p-update$/{$d;N;s/^GROUP=p2p-update\n//;/^umask 077$/d}' -e '/^USER=p2p-update$/d' "$defaults"
  [ -s "$defaults" ] || rm -f "$defaults"
}

forget_handlers() {
  ran=
  if stop_daemon serf /usr/bin/serf; then
    ran=1
  elif [ -n "$(pids_of /usr/bin/serf)" ]; then
    say 'restart serf by hand: it still runs with the configuration of p2p-update'
  fi
  rm -f /etc/serf/10-p2p-update.json /etc/serf/20-p2p-update-keys.json
  for service in serf transmission-daemon; do
    rm -f "$units/$service.service.d/p2p-update.conf"
    [ ! -d "$units/$service.service.d" ] || rmdir --ignore-fail-on-non-empty "$units/$service.service.d"
  done
  forget_serf_user
  # The snapshot of an agent that runs as another user is not this package's.
  if [ "$(stat -c %U /var/lib/serf 2>/dev/null)" = p2p-update ]; then
    rm -f /var/lib/serf/serf.snapshot /var/lib/serf/serf.snapshot.compact
    rmdir --ignore-fail-on-non-empty /var/lib/serf
    [ ! -d /var/lib/serf ] || chown -R --no-dereference --from=p2p-update root:root /var/lib/serf || :
  fi
  ! has_systemd || systemctl daemon-reload || :
  [ -z "$ran" ] || start_daemon serf
}

forget_units() {
  for unit in $wakers $services; do
    rm -f "$units/${unit##*.}s.target.wants/$unit" "$units/$unit"
    rm -rf "$units/$unit.d"
  done
  # As systemctl disable does.
  for directory in "$units/paths.target.wants" "$units/timers.target.wants"; do
    [ ! -d "$directory" ] || rmdir --ignore-fail-on-non-empty "$directory"
  done
  rm -f "$cron" "$cron_aside"
}

# Keeps the private keys that set-up made on the first node: without the root key no key of the fleet can be replaced.
forget_configuration() {
  keys=/etc/p2p-update/keys
  if [ -z "$(find "$keys" -name '*.key' -print -quit 2>/dev/null)" ]; then
    rm -rf /etc/p2p-update
    return 0
  fi
  find /etc/p2p-update -mindepth 1 -maxdepth 1 ! -path "$keys" -exec rm -rf {} +
  say "left as it is: $keys, private keys of the fleet"
}

forget_user() {
  if getent passwd p2p-update >/dev/null; then
    userdel p2p-update || say 'could not remove the user p2p-update: userdel p2p-update'
  fi
  # userdel leaves a group that has other members: operators.
  if getent group p2p-update >/dev/null; then
    groupdel p2p-update || say 'could not remove the group p2p-update: groupdel p2p-update'
  fi
}

# Everything but the program; with an argument the delivered files stay too.
forget_node() { # keep
  name_other_directories
  forget_units
  forget_hook
  forget_handlers
  if [ -d /etc/puppet/code/modules ]; then
    find /etc/puppet/code/modules -maxdepth 1 -type l -lname '/var/lib/p2p-update/apply/modules/*' -delete
  fi
  forget_configuration
  if [ -n "${1:-}" ] && [ -n "$(find /var/lib/p2p-update/files -mindepth 1 -print -quit 2>/dev/null)" ]; then
    find /var/lib/p2p-update -mindepth 1 -maxdepth 1 ! -name files -exec rm -rf --one-file-system {} +
    say 'left as it is: /var/lib/p2p-update/files, delivered files'
  else
    rm -rf --one-file-system /var/lib/p2p-update || say 'left: a file system that is mounted below /var/lib/p2p-update'
  fi
  forget_user
}
