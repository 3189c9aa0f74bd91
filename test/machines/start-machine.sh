#!/bin/sh
# start-machine.sh DIRECTORY LOWER CGROUP NAME
#
# Becomes process 1 of a machine, systemd, as a container manager starts it. Called in new PID, mount,
# network, host-name and IPC namespaces (machine.ts). The root is an overlay: what is written is in
# DIRECTORY/upper, above the directories LOWER.
set -eu
directory=$1 lower=$2 cgroup=$3 name=$4

if [ "${5-}" != inside ]; then
  echo 0 >"$cgroup/cgroup.procs"
  exec unshare --cgroup sh "$0" "$@" inside
fi

root=$directory/root
mount -t overlay -o "lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work" overlay "$root"
cd "$root"
# Kernel settings belong to the whole machine that runs the test: they are read-only here, as in any container.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
# The journal tells boots apart by it, and so does p2p-update.
cat proc/sys/kernel/random/uuid >"$directory/boot-id"
mount --bind "$directory/boot-id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Devices of its own: those of the machine that runs the test stay out of reach.
mount -t tmpfs -o mode=755 tmpfs dev
while read -r device major minor; do
  mknod -m 666 "dev/$device" c "$major" "$minor"
done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
NODES
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
: >dev/console
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
hostname "$name"

mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
# Neither the clock nor the kernel's modules are this machine's.
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-mac_admin,-mac_override \
  /lib/systemd/systemd --log-target=journal
