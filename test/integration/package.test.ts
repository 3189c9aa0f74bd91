import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OverlayMachine, whyNoOverlay } from '../support/run/overlay.ts';
import { copyPackageSources, makePackage } from '../support/run/package.ts';
import { repository } from '../support/run/repository.ts';

const lacks = whyNoOverlay();
if (lacks !== null) console.log(`package.test.ts is skipped: ${lacks}`);
const machine = lacks === null ? new OverlayMachine() : undefined;
const share = machine?.share ?? '';
/** Runs a script on a machine like this one. */
const on = (script: string, outside = '') =>
  machine?.on(script, outside) ?? { status: null, text: '' };

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

const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
  version: string;
};
const next = '99.0.0';
const deb = (of: string): string => `p2p-update_${of}_all.deb`;

/** Dependencies are what the suite's own set-up has installed; Node may come from elsewhere. */
const install = (of: string): string =>
  `dpkg --force-depends -i /mnt/${deb(of)} >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; exit 1; }`;

describe.skipIf(lacks !== null)('the package on a machine without systemd, by dpkg', () => {
  const settings = '/etc/transmission-daemon/settings.json';
  let before = '';
  afterAll(() => machine?.remove());

  beforeAll(async () => {
    const tree = join(share, 'tree');
    copyPackageSources(tree);
    const build = await makePackage(tree, { args: ['--out', share] });
    expect(build).toMatchObject({ status: 0, stderr: '' });
    // The next version, without a second build.
    const unpacked = join(share, 'next');
    const rename = `
      cd ${share}
      dpkg-deb -R ${deb(version)} ${unpacked}
      sed -i 's/^Version: .*/Version: ${next}/' ${unpacked}/DEBIAN/control
      find ${unpacked}/usr/lib/p2p-update/dist -name '*.cjs' -exec sed -i 's/"${version}"/"${next}"/g' {} +
      dpkg-deb --root-owner-group -Znone -b ${unpacked} ${deb(next)}`;
    expect(spawnSync('sh', ['-euc', rename]).status).toBe(0);
    // Nothing of another installation is in the way; triggers of other packages take longer than all else.
    expect(
      on(`
        rm -rf /etc/p2p-update /var/lib/p2p-update /var/lib/serf /usr/local/bin/p2p-update
        rm -f /etc/cron.d/p2p-update /etc/serf/*p2p-update*
        userdel p2p-update 2>/dev/null || :
        [ -x /usr/bin/node ] || { cp ${process.execPath} /usr/bin/node; chmod 755 /usr/bin/node; }
        mkdir -p /etc/serf /etc/cron.d /etc/systemd/system /etc/puppet/code/modules
        ln -sfn /elsewhere /etc/puppet/code/modules/own
        echo '{}' > /etc/serf/own.json
        echo 'RUN_MODE=own' > /etc/default/serf
        chmod 600 ${settings}
        printf 'no-triggers\\nforce-unsafe-io\\n' > /etc/dpkg/dpkg.cfg.d/p2p-update-test`),
    ).toEqual(done());
    before = traces();
  });

  it('makes the user and enables nothing, when it is installed', () => {
    expect(on(install(version))).toEqual(done());
    expect(on('p2p-update version; id -nG p2p-update')).toEqual(
      done(`${version}\np2p-update debian-transmission\n`),
    );
    expect(on("find /etc -name '*p2p-update*' -not -path '/etc/dpkg/*'")).toEqual(done());
  });

  it('leaves its units and its program to set-up, which writes no copies', () => {
    const { status, text } = on('p2p-update setup --systemd --node-name n1');
    expect(status, text).toBe(0);
    expect(
      on("find /etc/systemd/system /usr/local/bin -name 'p2p-update*' -not -name '*.conf'"),
    ).toEqual(done());
    expect(on('ls /etc/systemd/system/serf.service.d')).toEqual(done('p2p-update.conf\n'));
  });

  it('has a set-up that makes a whole node, which a cron wakes', () => {
    const program = 'machine/usr/lib/p2p-update/dist/p2p-update.cjs';
    const { status, text } = on(
      'cat /etc/default/serf; ls /etc/serf /etc/cron.d /etc/p2p-update/keys',
      `machine/usr/bin/node ${program} setup --new-fleet f --cron --root "$DIRECTORY/machine" >/tmp/setup.log`,
    );
    expect(status, text).toBe(0);
    for (const each of [
      'RUN_MODE=own\nUSER=p2p-update\nGROUP=p2p-update\numask 077\n',
      '10-p2p-update.json\n20-p2p-update-keys.json\n',
      '\np2p-update\n',
      'root.key\n',
    ])
      expect(text).toContain(each);
    expect(on(`grep done ${settings}`).text).toContain('"/etc/p2p-update/transmission-done"');
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
      ${install(next)}
      touch /tmp/ended
      wait
      cat /tmp/during
      p2p-update version
      cat /var/lib/p2p-update/apply/outcomes/x
      ls /etc/cron.d | grep p2p-update`);
    expect(text).toBe(`${version}\n0\n${next}\nkept\np2p-update\n`);
    expect(status).toBe(0);
  });

  it('keeps the state when it is removed, and goes on with it when it is installed again', () => {
    expect(on('dpkg -r p2p-update >/dev/null 2>&1; ls -d /usr/bin/p2p-update || :').text).toMatch(
      /No such file/,
    );
    expect(on('cat /var/lib/p2p-update/apply/outcomes/x; ls /etc/cron.d | grep p2p')).toEqual(
      done('kept\np2p-update.p2p-update-stopped\n'),
    );
    expect(on(install(next))).toEqual(done());
    expect(on('ls /etc/cron.d | grep p2p')).toEqual(done('p2p-update\n'));
  });

  it('leaves nothing of its own but private keys, and all that is not, when it is purged', () => {
    const purge = on(`
      ln -s /var/lib/p2p-update/apply/modules/x-1 /etc/puppet/code/modules/x
      install -d -o p2p-update -g p2p-update /var/lib/serf
      runuser -u p2p-update -- touch /var/lib/serf/serf.snapshot
      # As Transmission 3.00 writes it when it ends.
      sed -i '/done/s|/|\\\\/|g' ${settings}
      dpkg -P p2p-update`);
    expect(purge.status, purge.text).toBe(0);
    expect(purge.text).toContain(
      'p2p-update: left as it is: /etc/p2p-update/keys, private keys of the fleet\n',
    );
    expect(on(`grep -o 'torrent-done-.*' ${settings}; cat /etc/default/serf`).text.trim()).toBe(
      'torrent-done-enabled": false,\ntorrent-done-filename": "",\nRUN_MODE=own',
    );
    expect(on('cd /etc/p2p-update; ls; ls keys; rm -r /etc/p2p-update')).toEqual(
      done('keys\nkeyset.txt\nrelease.key\nrelease.pub\nroot.key\nroot.pub\n'),
    );
    expect(traces().split('\n')).toEqual(before.split('\n'));
  });

  it("leaves another agent's snapshot and another program's hook, when it is purged", () => {
    expect(
      on(`
        ${install(version)}
        install -d /var/lib/serf
        echo mine > /var/lib/serf/serf.snapshot
        printf '# p2p-update begin\\nUSER=p2p-update\\n# p2p-update end\\numask 022\\n' > /etc/default/serf
        printf '{ "script-torrent-done-enabled": true, "script-torrent-done-filename": "/opt/p2p-update/own-transmission-done" }\\n' > ${settings}
        cp ${settings} /tmp/own
        dpkg -P p2p-update >/dev/null 2>&1
        cmp ${settings} /tmp/own
        cat /var/lib/serf/serf.snapshot /etc/default/serf`),
    ).toEqual(done('mine\numask 022\n'));
  });
});
