#!/bin/sh
# npm run test:debian -- RELEASE [--node MAJOR] [--only demo|test] [--keep DIR]
#
# Makes a Debian of that release in a directory, from this machine's own package source, with Node and npm and
# nothing else, and runs the demo and the test suite of this checkout in it, in namespaces of their own.
# Ends with 0 when both pass, with 77 where it cannot be done.
set -eu

usage() {
  cat <<'TEXT'
Usage: npm run test:debian -- 12|13 [--node MAJOR] [--only demo|test] [--keep DIR]

Makes a Debian in a directory, with Node and npm and nothing else, and runs there what a newcomer runs:
npm run demo, then npm test. Needs root, and mmdebstrap (apt-get install mmdebstrap).

  --node MAJOR     Node of that major version, from the npm registry: 20, 22, 24 (default: Debian's own on
                   13; 20 on 12, whose own Node is too old to build with)
  --only WHICH     demo or test alone
  --keep DIR       make it in DIR, or go on with the one that is there, and leave it

Exit status: 0 both passed, 1 one failed, 64 usage, 77 it cannot be done on this machine.
TEXT
}

say() { printf 'test:debian: %s\n' "$*" >&2; }
fail() { # status, error, hint
  say "error: $2"
  say "hint: $3"
  exit "$1"
}

release= node= only='demo test' keep=
while [ $# -gt 0 ]; do
  case $1 in
    12 | 13) release=$1 ;;
    --node | --only | --keep)
      [ $# -ge 2 ] || fail 64 "$1 needs a value" 'npm run test:debian -- --help'
      case $1:$2 in
        --node:20 | --node:22 | --node:24) node=$2 ;;
        --only:demo | --only:test) only=$2 ;;
        --keep:/*) keep=$2 ;;
        --keep:*) keep=$PWD/$2 ;;
        *) fail 64 "$1 does not take $2" 'npm run test:debian -- --help' ;;
      esac
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) fail 64 "unknown argument $1" 'npm run test:debian -- --help' ;;
  esac
  shift
done
case $release in
  12) suite=bookworm node=${node:-20} ;;
  13) suite=trixie ;;
  *) fail 64 'name the release, 12 or 13' 'npm run test:debian -- 13' ;;
esac

[ "$(id -u)" -eq 0 ] || fail 77 'only root can make a Debian in a directory' 'run it as root'
command -v mmdebstrap >/dev/null 2>&1 ||
  fail 77 'mmdebstrap is missing' 'apt-get install mmdebstrap'
repository=$(cd "$(dirname "$0")/../.." && pwd)

work=$(mktemp -d "${TMPDIR:-/tmp}/p2p-debian-XXXXXX")
root=${keep:-$work/root}
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- the machine ---------------------------------------------------------------------------------
if [ ! -e "$root/etc/debian_version" ]; then
  # The first source of this machine that has Debian itself.
  source=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/ main$//p' | head -n 1)
  [ -n "$source" ] || fail 77 'this machine has no package source' 'set one up in /etc/apt'
  say "making Debian $release in $root"
  mkdir -p "$root"
  mmdebstrap --variant=apt --include=ca-certificates,mount,nodejs,npm "$suite" "$root" "$source" \
    >"$work/mmdebstrap.log" 2>&1 || {
    tail -n 20 "$work/mmdebstrap.log" >&2
    fail 77 "mmdebstrap could not make Debian $release" 'its last lines are above'
  }
  # As the installer does it: Facter, and so Puppet, would ask the resolver for the host's own name.
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$root/etc/hosts"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || :
# Certificates of a proxy that this machine has to go through.
certificates=
if [ -n "${NODE_EXTRA_CA_CERTS-}" ]; then
  certificates=/etc/node-extra-ca-certs.pem
  cp "$NODE_EXTRA_CA_CERTS" "$root$certificates"
fi

# Runs a command in the machine: its root is that of its mount namespace, as nsenter(1) expects.
inside() {
  unshare --mount --pid --fork --propagation private sh -c '
    set -e
    root=$1 certificates=$2
    shift 2
    mount --bind "$root" "$root"
    mkdir -p "$root/.old"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    cd "$root"
    pivot_root . .old
    cd /
    umount -l /.old
    exec env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CI="${CI-}" \
      ${certificates:+NODE_EXTRA_CA_CERTS=$certificates} \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
  ' sh "$root" "$certificates" "$@"
}

if [ -n "$node" ] && ! inside node --version | grep -q "^v$node\\."; then
  say "installing Node $node from the npm registry"
  inside npm install --silent --global --prefix /usr/local "node@$node"
fi

# ---- the checkout --------------------------------------------------------------------------------
# The tracked files as they are now, without what was built or installed here.
code=$root/root/p2p-update
rm -rf "$code"
mkdir -p "$code"
git -C "$repository" ls-files -z | tar -C "$repository" --null -T - -cf - | tar -C "$code" -xf -

status=0
for which in $only; do
  say "$which on Debian $release"
  case $which in
    demo) inside sh -c 'cd /root/p2p-update && npm run demo' || status=1 ;;
    test) inside sh -c 'cd /root/p2p-update && npm test' || status=1 ;;
  esac
done

# ---- the result, as a row of docs/platforms.md ---------------------------------------------------
version() { inside dpkg-query -W -f '${Version}' "$1" 2>/dev/null || printf 'none'; }
printf '\n| Debian | Node | Serf | Transmission | Puppet | systemd | date | result |\n'
printf '| %s ' "$(cat "$root/etc/debian_version")" "$(inside node --version)" "$(version serf)" \
  "$(version transmission-daemon)" "$(version puppet-agent)" "$(version systemd)" "$(date -I)" \
  "$([ "$status" -eq 0 ] && echo passed || echo failed)"
printf '|\n'
exit "$status"
