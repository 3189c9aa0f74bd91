import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copySources } from '../support/run/copy.ts';
import { repository } from '../support/run/repository.ts';

const directory = mkdtempSync(join(tmpdir(), 'package-'));

/**
 * Runs a script on a machine like this one whose files can be changed at will: an overlay of /. Its mounts are in
 * a namespace that ends with the script, and its devices are its own: no clean-up of a directory can meet what is
 * the machine's. Needs root, and a kernel that has overlays. The sandbox's own /run has no systemd.
 */
function on(script: string) {
  const machine = `
    cd "$DIRECTORY"
    mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work overlay machine
    mount -t tmpfs tmpfs machine/run
    mount -t proc proc machine/proc
    mount -t tmpfs -o mode=755 tmpfs machine/dev
    mknod -m 666 machine/dev/null c 1 3
    mknod -m 666 machine/dev/urandom c 1 9
    ln -s /proc/self/fd machine/dev/fd
    exec chroot machine sh -euc "$SCRIPT"`;
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-euc', machine], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      DIRECTORY: directory,
      SCRIPT: script,
    },
  });
  return { status, text: `${stdout}${stderr}` };
}

function hasMachine(): boolean {
  // The maintainer scripts stop daemons: no process but the sandbox's may be in sight.
  if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside') return false;
  const layer = join(directory, 'layer');
  mkdirSync(join(directory, 'machine'));
  mkdirSync(layer);
  // The layers of an overlay have to be apart.
  if (spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', layer]).status !== 0) return false;
  for (const name of ['upper', 'work']) mkdirSync(join(layer, name));
  return on('dpkg --version').status === 0;
}

const done = (text = '') => ({ status: 0, text });

/** Everything that the package, set-up or their users may leave, with owners and modes. */
const traces = () =>
  on(`
    {
      find /etc /var/lib -path /var/lib/dpkg -prune -o -not -name '*-' -printf '%p %y %m %u:%g %l\\n'
      find /usr -name '*p2p-update*'
    } | sort
    getent passwd | sort
    getent group | sort`).text;

function makePackage(version: string): void {
  const tree = join(directory, version);
  copySources(tree);
  for (const each of ['docs', 'serf.json', 'CHANGELOG.md'])
    cpSync(join(repository, each), join(tree, each), { recursive: true });
  const manifest = readFileSync(join(repository, 'package.json'), 'utf8');
  writeFileSync(
    join(tree, 'package.json'),
    manifest.replace(/"version": ".*"/, `"version": "${version}"`),
  );
  const argv = ['scripts/package/start.mjs', '--out', directory];
  const env = { ...process.env, SOURCE_DATE_EPOCH: '1795000001' };
  const { status, stderr } = spawnSync(process.execPath, argv, {
    cwd: tree,
    env,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

/** Dependencies are what the suite's own set-up has installed; Node may come from elsewhere. */
const install = (version: string): string =>
  `dpkg --force-depends -i ${directory}/p2p-update_${version}_all.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; exit 1; }`;

describe.skipIf(!hasMachine())('the package on a machine without systemd, by dpkg', () => {
  const settings = '/etc/transmission-daemon/settings.json';
  let before = '';
  afterAll(() => {
    spawnSync('umount', [join(directory, 'layer')]);
  });

  beforeAll(() => {
    for (const version of ['1.0.0', '1.1.0']) makePackage(version);
    // Nothing of another installation is in the way.
    expect(
      on(`
        rm -rf /etc/p2p-update /var/lib/p2p-update /var/lib/serf /usr/local/bin/p2p-update
        rm -f /etc/cron.d/p2p-update /etc/serf/*p2p-update*
        userdel p2p-update 2>/dev/null || :
        [ -x /usr/bin/node ] || { cp ${process.execPath} /usr/bin/node; chmod 755 /usr/bin/node; }
        mkdir -p /etc/serf /etc/cron.d /etc/systemd/system /etc/puppet/code/modules
        ln -sfn /elsewhere /etc/puppet/code/modules/own
        echo '{}' > /etc/serf/own.json`),
    ).toEqual(done());
    before = traces();
  });

  it('makes the user and enables nothing, when it is installed', () => {
    expect(on(install('1.0.0'))).toEqual(done());
    expect(on('p2p-update version; id -nG p2p-update')).toEqual(
      done('1.0.0\np2p-update debian-transmission\n'),
    );
    expect(on("find /etc -name '*p2p-update*'")).toEqual(done());
  });

  it('leaves its units and its program to set-up, which writes no copies', () => {
    const { status, text } = on('p2p-update setup --systemd --node-name n1');
    expect(status, text).toBe(0);
    expect(
      on("find /etc/systemd/system /usr/local/bin -name 'p2p-update*' -not -name '*.conf'"),
    ).toEqual(done());
    expect(on('ls /etc/systemd/system/serf.service.d')).toEqual(done('p2p-update.conf\n'));
    const cron = on('p2p-update setup --cron');
    expect(cron.status, cron.text).toBe(0);
  });

  it('waits, in an upgrade, until the run at work has ended, and loses nothing', () => {
    const lock = '/var/lib/p2p-update/apply/apply.lock';
    const { status, text } = on(`
      echo kept > /var/lib/p2p-update/apply/outcomes/x
      touch ${lock}
      # Ends as soon as dpkg says that it waits, and notes which version is still there.
      ( flock 9
        until grep -q 'waiting until the update' /tmp/dpkg.log 2>/dev/null || [ -e /tmp/ended ]; do sleep 0.1; done
        p2p-update version > /tmp/during; ls /etc/cron.d | grep -c '^p2p-update$' >> /tmp/during || :
      ) 9>${lock} &
      rm -f /tmp/dpkg.log
      while flock --nonblock ${lock} true; do sleep 0.1; done
      ${install('1.1.0')}
      touch /tmp/ended
      wait
      cat /tmp/during
      p2p-update version
      cat /var/lib/p2p-update/apply/outcomes/x
      ls /etc/cron.d | grep p2p-update`);
    expect(text).toBe('1.0.0\n0\n1.1.0\nkept\np2p-update\n');
    expect(status).toBe(0);
  });

  it('keeps the state when it is removed, and goes on with it when it is installed again', () => {
    expect(on('dpkg -r p2p-update >/dev/null 2>&1; ls -d /usr/bin/p2p-update || :').text).toMatch(
      /No such file/,
    );
    expect(on('cat /var/lib/p2p-update/apply/outcomes/x; ls /etc/cron.d | grep p2p')).toEqual(
      done('kept\np2p-update.p2p-update-stopped\n'),
    );
    expect(on(install('1.1.0'))).toEqual(done());
    expect(on('ls /etc/cron.d | grep p2p')).toEqual(done('p2p-update\n'));
  });

  it('leaves nothing of its own, and all that is not, when it is purged', () => {
    expect(
      on(`
        echo '{}' > /etc/serf/10-p2p-update.json
        echo '{}' > /etc/serf/20-p2p-update-keys.json
        ln -s /var/lib/p2p-update/apply/modules/x-1 /etc/puppet/code/modules/x
        install -d -o p2p-update -g p2p-update /var/lib/serf
        runuser -u p2p-update -- touch /var/lib/serf/serf.snapshot
        cp -p ${settings} /tmp/settings
        printf '{\\n    "script-torrent-done-enabled": true,\\n    "script-torrent-done-filename": "\\\\/etc\\\\/p2p-update\\\\/transmission-done",\\n    "umask": 18\\n}\\n' > ${settings}
        dpkg -P p2p-update >/dev/null 2>&1`),
    ).toEqual(done());
    expect(on(`cat ${settings}; cp -p /tmp/settings ${settings}`)).toEqual(
      done(
        '{\n    "script-torrent-done-enabled": false,\n    "script-torrent-done-filename": "",\n    "umask": 18\n}\n',
      ),
    );
    expect(traces().split('\n')).toEqual(before.split('\n'));
  });

  it("leaves another agent's snapshot and another program's hook, when it is purged", () => {
    expect(
      on(`
        ${install('1.0.0')}
        install -d /var/lib/serf
        echo mine > /var/lib/serf/serf.snapshot
        printf '{ "script-torrent-done-enabled": true, "script-torrent-done-filename": "/opt/p2p-update/own-transmission-done" }\\n' > ${settings}
        cp ${settings} /tmp/own
        dpkg -P p2p-update >/dev/null 2>&1
        cmp ${settings} /tmp/own
        cat /var/lib/serf/serf.snapshot`),
    ).toEqual(done('mine\n'));
  });
});
