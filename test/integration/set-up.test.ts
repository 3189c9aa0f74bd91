import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layNetwork, type Network, type Place } from '../support/fleet/network.ts';
import { OverlayMachine, whyNoOverlay } from '../support/run/overlay.ts';
import { copyPackageSources, makePackage } from '../support/run/package.ts';
import { waitFor } from '../support/run/wait-for.ts';

const lacks = whyNoOverlay();
if (lacks !== null) console.log(`set-up.test.ts is skipped: ${lacks}`);

/** A machine with the three daemons' packages, as they are after apt, and with a cron that runs nothing. */
const bare = `
  rm -rf /etc/p2p-update /var/lib/p2p-update /var/lib/serf /usr/local/bin/p2p-update /etc/serf/*
  rm -rf /var/lib/transmission-daemon/info/torrents /var/lib/transmission-daemon/info/resume
  rm -f /etc/cron.d/p2p-update /etc/default/serf
  userdel p2p-update 2>/dev/null || :
  mkdir -p /etc/serf /etc/cron.d /etc/puppet/code/modules
  [ -x /usr/bin/node ] || { cp ${process.execPath} /usr/bin/node; chmod 755 /usr/bin/node; }
  printf '#!/bin/sh\\nwhile :; do sleep 1000; done\\n' > /usr/sbin/cron
  printf '#!/bin/sh\\n[ "$1" = stop ] || setsid /usr/sbin/cron >/dev/null 2>&1 </dev/null &\\n' > /etc/init.d/cron
  chmod 755 /usr/sbin/cron /etc/init.d/cron`;
const settings = '/etc/transmission-daemon/settings.json';
/** Everything that set-up writes, to be compared: names, owners, modes and sums. */
const traces = `
  find /etc /var/lib/p2p-update /usr/local/bin -type f -not -name '*-' -printf '%p %m %u:%g ' -exec md5sum {} \\; | sort`;

/** Traces without the settings of Transmission, which the daemon itself writes when it starts and ends. */
const besideSettings = (text: string): string[] =>
  text.split('\n').filter((line) => !line.startsWith(settings));

class Machine {
  readonly image = new OverlayMachine();
  readonly place: Place;

  constructor(place: Place) {
    this.place = place;
  }

  /** Runs a script, and throws unless it ends with 0. */
  async must(script: string, input = ''): Promise<string> {
    const { status, stdout, stderr } = await this.image.run(script, input);
    if (status !== 0) throw new Error(`${script}: ${status ?? 'killed'}\n${stdout}${stderr}`);
    return stdout;
  }

  async json<T>(script: string, input = ''): Promise<T> {
    return JSON.parse(await this.must(script, input)) as T;
  }
}

interface SetUp {
  steps: unknown[];
  left: unknown[];
  node: string;
  members: string[];
  invite: { join: string[]; token: string };
}

interface Examination {
  checks: { id: string; verdict: string; what: string; fix: string[] }[];
}

describe.skipIf(lacks !== null)('p2p-update setup on machines without systemd', () => {
  let network: Network;
  let machines: Machine[] = [];
  let first: Machine;
  let second: Machine;
  let third: Machine;
  let made: SetUp;

  beforeAll(async () => {
    network = layNetwork(['s1', 's2', 's3'], 1);
    machines = network.places.map((place) => new Machine(place));
    [first, second, third] = machines as [Machine, Machine, Machine];
    const { share } = first.image;
    copyPackageSources(join(share, 'tree'));
    const build = await makePackage(join(share, 'tree'), { args: ['--out', share] });
    expect(build).toMatchObject({ status: 0, stderr: '' });
    const [deb = ''] = readdirSync(share).filter((name) => name.endsWith('.deb'));
    for (const { image } of [second, third]) cpSync(join(share, deb), join(image.share, deb));
    const install = `dpkg --force-depends --no-triggers -i /mnt/p2p-update_*_all.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; exit 1; }`;
    for (const [index, { image, place }] of machines.entries()) {
      expect(image.on(`${bare}\n${install}`)).toMatchObject({ status: 0 });
      await image.live(place.namespace, `node-${index + 1}`);
    }
  });
  afterAll(() => {
    for (const { image } of machines) image.remove();
    network.remove();
  });

  const faults = async (machine: Machine): Promise<string[]> => {
    const { stdout } = await machine.image.run('p2p-update doctor --json');
    const { checks } = JSON.parse(stdout) as Examination;
    return checks
      .filter(({ verdict }) => verdict === 'fail')
      .map(({ id, what }) => `${id}: ${what}`);
  };
  const join2 = (address: string, more = ''): string =>
    `p2p-update setup --join ${address} --token - --yes ${more}`;

  it('makes a fleet of two bare machines by one command each, and doctor finds no fault', async () => {
    const address = first.place.address;
    made = await first.json<SetUp>('p2p-update setup --new-fleet lab --yes --json');
    expect(made).toMatchObject({ node: 'node-1', members: ['node-1'], left: [] });
    expect(made.invite.join).toEqual([address]);
    const joined = await second.json<SetUp>(join2(address, '--json'), made.invite.token);
    expect(joined).toMatchObject({ node: 'node-2', members: ['node-1', 'node-2'], left: [] });
    for (const machine of [first, second]) expect(await faults(machine)).toEqual([]);
    // Private keys stay where they were made, and no key is another machine's.
    expect(await second.must('ls /etc/p2p-update')).not.toContain('keys\n');
    const secrets = 'cat /etc/p2p-update/serf-rpc.key /etc/p2p-update/transmission.json';
    expect(await second.must(secrets)).not.toBe(await first.must(secrets));
  });

  it('has made a node that takes the update of another', async () => {
    await first.must('echo 4711 > /root/firmware.bin; p2p-update submit /root/firmware.bin');
    // The work of cron's lines, each minute.
    const work =
      'runuser -u p2p-update -- p2p-update reconcile || :; p2p-update apply || :; cat /var/lib/p2p-update/files/firmware.bin || :';
    await waitFor('it has the file', async () => (await second.must(work)).endsWith('4711\n'));
  });

  it('says "nothing to do" when there is nothing, and starts again what is down', async () => {
    const before = await second.must(traces);
    expect(await second.must('p2p-update setup')).toMatch(/^nothing to do\n\nnode-2 is a node/);
    await second.must('service transmission-daemon stop >/dev/null');
    expect(await second.must('p2p-update setup --yes')).toMatch(
      /^start +transmission-daemon +is down\n\nnode-2 is a node/,
    );
    expect(besideSettings(await second.must(traces))).toEqual(besideSettings(before));
  });

  it.each<
    [string, () => Promise<{ prepare?: string; input: string; args: string }>, number, RegExp]
  >([
    [
      'an invitation that was cut off',
      async () => {
        const { token } = made.invite;
        return Promise.resolve({ input: token.slice(0, -1), args: '--join 192.0.2.1 --token -' });
      },
      65,
      /a part of it is missing/,
    ],
    [
      'an invitation that is empty',
      async () => Promise.resolve({ input: '', args: '--join 192.0.2.1 --token -' }),
      65,
      /it is empty/,
    ],
    [
      'an address where nobody answers',
      async () =>
        Promise.resolve({
          input: await invitationWith(first, `join: ["${third.place.address}"]`),
          args: `--join ${third.place.address} --token -`,
        }),
      69,
      /no member answers at/,
    ],
    [
      'a gossip key that the fleet no longer has',
      async () => ({
        input: await invitationWith(
          first,
          `gossipKey: "${Buffer.alloc(32, 9).toString('base64')}"`,
        ),
        args: `--join ${first.place.address} --token -`,
      }),
      76,
      /has another gossip key than the invitation/,
    ],
    [
      'a file of Serf that is not JSON',
      async () =>
        Promise.resolve({
          prepare: 'echo "{" > /etc/serf/00-site.json',
          input: made.invite.token,
          args: `--join ${first.place.address} --token -`,
        }),
      78,
      /00-site\.json is not a JSON object/,
    ],
    [
      'settings of Transmission that are not JSON',
      async () =>
        Promise.resolve({
          prepare: `cp ${settings} /tmp/kept; echo "{" > ${settings}`,
          input: made.invite.token,
          args: `--join ${first.place.address} --token -`,
        }),
      78,
      /settings\.json is not a JSON object/,
    ],
    [
      'no yes, and nobody to ask',
      async () =>
        Promise.resolve({
          prepare: `cp /tmp/kept ${settings} 2>/dev/null || :`,
          input: made.invite.token,
          args: `--join ${first.place.address} --token - --json`,
        }),
      64,
      /there is no terminal to ask on/,
    ],
  ])('refuses %s, and changes nothing', async (_, given, status, message) => {
    const { prepare = ':', input, args } = await given();
    await third.must(prepare);
    const before = await third.must(traces);
    const yes = status === 64 ? '' : '--yes';
    const end = await third.image.run(`p2p-update setup ${args} ${yes}`, input);
    expect(end.stderr).toMatch(message);
    expect(end.stderr).toMatch(/^setup: hint: \S/m);
    expect(end.status).toBe(status);
    if (input.length > 20) expect(end.stdout + end.stderr).not.toContain(input.slice(8, 60));
    expect(await third.must(traces)).toBe(before);
    await third.must(`rm -f /etc/serf/00-site.json; cp /tmp/kept ${settings} 2>/dev/null || :`);
  });

  it.each<[string, string, string, number, RegExp]>([
    [
      'without apt, when a program is missing',
      'mv /usr/bin/puppet /usr/bin/puppet.away; mv /usr/bin/apt-get /usr/bin/apt-get.away',
      'mv /usr/bin/puppet.away /usr/bin/puppet; mv /usr/bin/apt-get.away /usr/bin/apt-get',
      69,
      /puppet-agent: not installed, and there is no apt-get/,
    ],
    [
      'where /etc cannot be written',
      'mount --bind /etc /etc; mount -o remount,bind,ro /etc',
      'umount /etc',
      78,
      /\/etc is on a file system that is read-only/,
    ],
  ])('refuses to begin %s', async (_, spoil, mend, status, message) => {
    await third.must(spoil);
    const before = await third.must(traces);
    const end = await third.image.run(join2(first.place.address), made.invite.token);
    const after = await third.must(traces);
    await third.must(mend);
    expect(end.stderr).toMatch(message);
    expect(end.status).toBe(status);
    expect(after).toBe(before);
  });

  it('refuses a port that another program has, before it changes anything', async () => {
    const before = await third.must(traces);
    const held = `node -e 'require("net").createServer().listen(7946, "0.0.0.0")' & sleep 0.1
      until grep -q ":1F0A " /proc/net/tcp; do sleep 0.1; done
      s=0; ${join2(first.place.address)} || s=$?; kill $!; exit $s`;
    const { status, stderr } = await third.image.run(held, made.invite.token);
    expect(stderr).toContain('port 7946, which Serf needs, is taken');
    expect(status).toBe(78);
    expect(await third.must(traces)).toBe(before);
  });

  it('is finished by running it again, wherever it was killed', async () => {
    const command = join2(first.place.address);
    const signs = [
      'grep -q p2p-update /etc/passwd',
      '[ -e /etc/p2p-update/keyset.txt ]',
      '[ -d /var/lib/p2p-update/state/pending ]',
      '[ -e /etc/p2p-update/transmission.json ]',
      '[ -e /etc/serf/10-p2p-update.json ]',
      `grep -q transmission-done ${settings}`,
      '[ -e /var/lib/serf/serf.snapshot ]',
    ];
    let kills = 0;
    for (const sign of signs) {
      const killed = `cat > /tmp/token
        ${command} < /tmp/token >/dev/null 2>&1 &
        until ${sign} || ! kill -0 $! 2>/dev/null; do :; done
        kill -9 $! 2>/dev/null || :
        wait $! || echo killed`;
      if ((await third.must(killed, made.invite.token)) === 'killed\n') kills += 1;
    }
    expect(kills).toBeGreaterThan(0);
    expect(await third.must(command, made.invite.token)).toMatch(/^node-3 is a node of/m);
    expect(await third.must(command, made.invite.token)).toMatch(
      /^nothing to do\n\nnode-3 is a node of the fleet lab, alive: node-1, node-2, node-3\n$/,
    );
    expect(await faults(third)).toEqual([]);
    expect(await third.must('ls -A /etc/p2p-update /etc/serf')).not.toMatch(/tmp|pending|\.new/);
  });

  it("refuses another fleet's keys on a node, and keeps its own", async () => {
    const before = await second.must(traces);
    const { status, stderr } = await second.image.run('p2p-update setup --new-fleet other --yes');
    expect(stderr).toMatch(/this machine is a node of the fleet lab\n.*setup --remove/);
    expect(status).toBe(76);
    expect(await second.must(traces)).toBe(before);
  });

  it('makes a file of the invitation, by which a removed node comes back', async () => {
    const file = '/root/an invitation';
    await first.must(`p2p-update invite --out '${file}'`);
    expect(await first.must(`stat -c %a '${file}'`)).toBe('600\n');
    const invitation = await first.must(`cat '${file}'`);
    const again = await first.image.run(`p2p-update invite --out '${file}'`);
    expect(again).toMatchObject({ status: 76, stdout: '' });

    const removed = await third.must('p2p-update setup --remove --yes');
    expect(removed).toContain('/var/lib/p2p-update');
    expect(await third.must('p2p-update setup --remove --yes')).toBe('nothing to do\n');
    expect(await third.must('find /etc /var/lib -name "*p2p-update*" -not -path "*/dpkg/*"')).toBe(
      '',
    );
    await third.must('cat > /tmp/invitation', invitation);
    expect(await third.must('p2p-update setup --invite /tmp/invitation --yes')).toMatch(
      /node-3 is a node of the fleet lab, alive: node-1, node-2, node-3\n$/,
    );
  });

  it('names the address to be given where Serf would find none, and takes it', async () => {
    const device = (await third.must('ip -o -4 addr show scope global')).split(/\s+/);
    const [, name = '', , own = ''] = device;
    await third.must('p2p-update setup --remove --yes');
    const before = await third.must(traces);
    await third.must(
      `ip addr flush dev ${name} scope global; ip addr add 203.0.113.9/24 dev ${name}`,
    );
    try {
      const refused = await third.image.run('p2p-update setup --new-fleet public --yes');
      expect(refused.stderr).toMatch(/no private address.*\n.*--address 203\.0\.113\.9\n/);
      expect(refused.status).toBe(64);
      expect(besideSettings(await third.must(traces))).toEqual(besideSettings(before));
      const command = 'p2p-update setup --new-fleet public --address 203.0.113.9 --yes --json';
      const { members, invite } = await third.json<SetUp>(command);
      expect([members, invite.join]).toEqual([['node-3'], ['203.0.113.9']]);
      expect(await third.must('p2p-update setup --yes')).toMatch(/^nothing to do\n/);
    } finally {
      await third.must('p2p-update setup --remove --yes; rm -rf /etc/p2p-update');
      await third.must(`ip addr flush dev ${name} scope global; ip addr add ${own} dev ${name}`);
    }
  });

  it('asks on a terminal for what it was not told, and does not show the invitation', async () => {
    await third.must('p2p-update setup --remove --yes');
    const before = await third.must(traces);
    const { token } = made.invite;
    const questions: [string, string][] = [
      ['Name of the new fleet', ''],
      ['Address of a member', first.place.address],
      ['Invitation (it is not shown)', token],
    ];
    const daemons = 'Do that, and start the daemons?';
    const no = await third.image.converse('p2p-update setup', [...questions, [daemons, 'no']]);
    expect(no).toContain('setup: error: nothing was changed');
    expect(besideSettings(await third.must(traces))).toEqual(besideSettings(before));
    const yes = await third.image.converse('p2p-update setup', [...questions, [daemons, 'y']]);
    expect(yes).toMatch(/node-3 is a node of the fleet lab, alive: node-1, node-2, node-3/);
    expect(no + yes).not.toContain(token.slice(8, 60));
  });

  it('prints a line for bash that shows the secret neither to ps nor to the history', async () => {
    const line = (await first.must('p2p-update invite')).trim();
    expect(line).toMatch(/^history -d -1; p2p-update setup --join \S+ --token - <<< p2p1-[\w-]+$/);
    // A stand-in for set-up notes what it is given, and what every user can see of all processes meanwhile.
    const script = `
      mkdir -p /tmp/bin
      printf '#!/bin/sh\\ncat > /tmp/took; cat /proc/[0-9]*/cmdline | tr "\\\\0" " " > /tmp/ps\\n' > /tmp/bin/p2p-update
      chmod 755 /tmp/bin/p2p-update
      cat > /tmp/line
      export HOME=/tmp HISTFILE=/tmp/history PATH=/tmp/bin:$PATH
      { echo 'echo before'; cat /tmp/line; echo 'echo after'; echo exit; } | bash --norc -i >/dev/null 2>&1 || :
      cat /tmp/took`;
    const token = line.slice(line.lastIndexOf(' ') + 1);
    expect(await second.must(script, `${line}\n`)).toBe(`${token}\n`);
    expect(await second.must('cat /tmp/history')).toBe('echo before\necho after\nexit\n');
    const seen = await second.must('cat /tmp/ps');
    expect(seen).toContain('p2p-update setup --join');
    expect(seen).not.toContain(token.slice(0, 12));
  });

  it('notices a copy of its disk, and gives it a name of its own', async () => {
    await second.must('p2p-update setup --node-name pi-02 --yes');
    const id = await second.must('cat /etc/machine-id 2>/dev/null || :');
    await second.must('echo 0123456789abcdef0123456789abcdef > /etc/machine-id');
    expect((await faults(second)).join()).toMatch(/^machine: set up as another machine/);
    const refused = await second.image.run('p2p-update setup --yes');
    expect(refused.stderr).toMatch(/set up as another one, pi-02\n.*--node-name NAME/);
    expect(refused.status).toBe(76);
    const named = await second.must('p2p-update setup --node-name pi-03 --yes');
    expect(named).toMatch(/pi-03 is a node of the fleet lab/);
    expect(await second.must('p2p-update setup --yes')).toMatch(/^nothing to do\n/);
    await second.must('cat > /etc/machine-id', id);
  });
});

/** An invitation of the machine's fleet with one member changed, as only a program can make it. */
async function invitationWith(machine: Machine, change: string): Promise<string> {
  const { token } = await machine.json<{ token: string }>('p2p-update invite --json');
  const { formatInvitation, parseInvitation } = await import('../../lib/trust/invitation.ts');
  const [key = '', value = ''] = change.split(/: (.*)/s);
  return formatInvitation({ ...parseInvitation(token), [key]: JSON.parse(value) as never });
}
