#!/bin/sh
# sandbox.sh COMMAND [ARGUMENT...]
#
# Runs a command in network, mount, process and host-name namespaces of its own, so that nothing it
# does to interfaces, /run or processes touches the machine. Ends with the command's status; whatever
# the command has left running ends with it, also when this script is killed with -9. Signals are
# passed on. Needs root, or a kernel that lets users make namespaces.
set -eu

[ $# -gt 0 ] || { echo 'usage: sandbox.sh COMMAND [ARGUMENT...]' >&2; exit 64; }

# Runs a command as a child, passes signals on to it, and leaves its exit status in $status.
supervise() {
  # Without job control a shell gives a background command no input, and makes it deaf to Ctrl-C.
  exec 3<&0
  env --default-signal=INT,QUIT "$@" <&3 3<&- &
  child=$!
  exec 3<&-
  signalled=
  trap 'signalled=1; kill -TERM "$child" 2>/dev/null || :' TERM
  trap 'signalled=1; kill -HUP "$child" 2>/dev/null || :' HUP
  # A terminal sends Ctrl-C to every process by itself.
  trap 'signalled=1; [ -t 0 ] || kill -INT "$child" 2>/dev/null || :' INT
  # A trapped signal interrupts wait.
  while
    status=0
    wait "$child" || status=$?
    [ -n "$signalled" ]
  do
    signalled=
  done
}

case ${P2P_UPDATE_SANDBOX:-outside} in
outside)
  PATH="$PATH:/usr/sbin:/sbin"
  set -- sh "$0" "$@"
  namespaces='--net --mount --pid --uts'
  # shellcheck disable=SC2086 # several words on purpose
  if ! unshare $namespaces true 2>/dev/null; then
    namespaces="$namespaces --user --map-root-user"
    if ! reason=$(unshare $namespaces true 2>&1); then
      {
        printf 'sandbox: error: cannot make namespaces: %s\n' "$reason"
        echo 'sandbox: hint: run it as root, or let users make namespaces (sysctl user.max_user_namespaces,'
        echo 'sandbox: hint: kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns);'
        echo 'sandbox: hint: a container needs CAP_SYS_ADMIN'
      } >&2
      exit 69
    fi
  fi
  # On Node 20 this variable costs every process some 30 ms.
  unset NODE_EXTRA_CA_CERTS
  export P2P_UPDATE_SANDBOX=parent
  # shellcheck disable=SC2086
  exec unshare $namespaces "$@"
  ;;
parent)
  # Its first child becomes process 1 of the new namespace: with that one everything ends.
  export P2P_UPDATE_SANDBOX=init
  supervise setpriv --pdeathsig KILL sh "$0" "$@"
  exit "$status"
  ;;
init)
  mount -t proc proc /proc
  # `ip netns` keeps its names in /run.
  mount -t tmpfs -o mode=755 tmpfs /run
  # Names in it have process ids, such as faketime's, which are the same in each sandbox.
  [ ! -d /dev/shm ] || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  ip link set lo up
  TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/p2p-sandbox-XXXXXX")
  # As in /tmp itself, other users may reach what is theirs.
  chmod 711 "$TMPDIR"
  export P2P_UPDATE_SANDBOX=inside TMPDIR
  supervise "$@"
  # No process may write there any more.
  kill -KILL -1 2>/dev/null || :
  # Mounts that the command has left there may show what is the machine's. The innermost first; a space is \040 in
  # that file, and \0040 for printf, which takes up to three digits after \0.
  tac /proc/self/mountinfo | cut -d ' ' -f 5 | sed 's/\\/\\0/g' | while read -r place; do
    place=$(printf '%b' "$place")
    case $place in "$TMPDIR"/*) umount --lazy "$place" || : ;; esac
  done
  clean_up() { rm -rf --one-file-system "$TMPDIR"; }
  clean_up 2>/dev/null || { sleep 1; clean_up; } || :
  exit "$status"
  ;;
*) exec "$@" ;;
esac
