#!/bin/sh
# Makes `npm test` and `npm run demo` work on a fresh machine: npm packages, Debian packages, dist/.
# Plain sh, because it runs before node_modules exists. Does nothing, quickly, when all is there.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# ---- Node ----------------------------------------------------------------------------------------
# Before npm, which fails with words of its own on an old Node.
node=$(node --version 2>/dev/null) || node=none
if ! printf '%s\n' "$node" | grep -Eq '^v(20\.(19|[2-9][0-9])|2[1-9]|[3-9][0-9])(\.|$)'; then
  say "error: p2p-update needs Node 20.19 or newer, this is ${node#v}"
  say 'hint: install a newer Node, and have its directory first in PATH'
  exit 69
fi

# ---- npm packages --------------------------------------------------------------------------------
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say 'installing the npm packages of package-lock.json (npm ci)'
  npm ci --no-audit --no-fund
  touch node_modules/.package-lock.json
fi

# ---- Debian packages -----------------------------------------------------------------------------
PATH="$PATH:/usr/sbin:/sbin:/opt/puppetlabs/bin"
missing=
need() { # command, Debian package that has it
  command -v "$1" >/dev/null 2>&1 || case " $missing " in
    *" $2 "*) ;;
    *) missing="$missing $2" ;;
  esac
}
need serf serf
need transmission-daemon transmission-daemon
need puppet puppet-agent
need ip iproute2
need flock util-linux
need unshare util-linux
need setsid util-linux
need git git
need pgrep procps
need systemd-analyze systemd
need faketime faketime
need strace strace
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    say "this is not Debian: install these by hand, then run the command again:$missing"
    exit 69
  fi
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
      say "these Debian packages are missing, and there is no sudo; as root run: apt-get install$missing"
      exit 69
    fi
    as_root=sudo
  fi
  say "installing the Debian packages:$missing (apt-get${as_root:+, by sudo})"

  # Debian starts a daemon as soon as its package is installed. A policy-rc.d that says 101 forbids
  # it (invoke-rc.d(8)); one that an administrator wrote is left alone.
  policy=/usr/sbin/policy-rc.d
  made_policy=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    made_policy=1
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
  fi
  # shellcheck disable=SC2086 # the list is ours, one word a package
  {
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
  }
  if [ -n "$made_policy" ]; then
    $as_root rm -f "$policy"
    trap - EXIT INT TERM
  fi
  # Nor may they start at the next boot: only what was installed just now is disabled.
  if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
    for package in $missing; do
      case $package in
        serf) units=serf.service ;;
        transmission-daemon) units=transmission-daemon.service ;;
        puppet-agent) units='puppet.service pxp-agent.service' ;;
        *) units= ;;
      esac
      for unit in $units; do
        $as_root systemctl disable --now "$unit" >/dev/null 2>&1 || :
      done
    done
  fi
fi

# ---- dist/ ---------------------------------------------------------------------------------------
npm run --silent build
