#!/bin/sh
# Transmission's script-torrent-done of a node: marks the info hash of a finished download, which wakes the
# reconciler. POSIX sh, and no Node, for Debian 13 runs the daemon with MemoryDenyWriteExecute=true, under
# which no just-in-time compiler starts. handlers/transmission-done.ts does the same where the marker alone
# wakes nothing. Of the environment the hash alone is used.
set -eu
LC_ALL=C
export LC_ALL
umask 027

refuse() { # exit status, error, hint
  printf 'transmission-done: error: %s\ntransmission-done: hint: %s\n' "$2" "$3" >&2
  exit "$1"
}

hash=${TR_TORRENT_HASH-}
case ${#hash}:$hash in
  40:*[!0-9a-f]*) is_hash= ;;
  40:*) is_hash=1 ;;
  *) is_hash= ;;
esac
[ -n "$is_hash" ] || refuse 64 'TR_TORRENT_HASH is not an info hash of 40 hex digits' \
  'Transmission runs this: set script-torrent-done-filename (docs/transmission.md)'

marker=@APPLY@/complete/$hash
# Appending: a marker that is there is left as it is, and wakes the apply side again.
reason=$({ true >>"$marker" && sync "$marker"; } 2>&1) ||
  refuse 75 "could not write $marker: ${reason##*: }" \
    'is there space, and is the directory as set-up made it? p2p-update setup --dry-run'
