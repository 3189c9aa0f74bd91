import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { parseAnnouncement, type UpdateId } from '../../lib/announcement/update.ts';
import { shellCommand } from '../../lib/command-hint.ts';
import { keepAccepted } from '../../lib/state/facts.ts';
import { keepKeySet } from '../../lib/state/key-chain.ts';
import { keySetsDir } from '../../lib/state/layout.ts';
import { publicKeyOf } from '../../lib/trust/ed25519.ts';
import { nextKeySet } from '../../lib/trust/key-change.ts';
import { formatKeySet, type KeySet } from '../../lib/trust/key-set.ts';
import { verifyAnnouncement } from '../../lib/trust/verify.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import {
  runCommand,
  keepAnnouncement,
  makeKeyFiles,
  makeOperator,
  setAnswers,
  type Operator,
  type OperatorOptions,
  type Outcome,
  serveTransmission,
} from '../support/fleet/operator.ts';
import type { Submitted } from '../support/fleet/submit.ts';
import { runSync } from '../support/run/command.ts';
import { readTree } from '../support/run/tree.ts';

// Tests that need the real daemons are in test/integration/.

type Facts = Submitted & {
  noop: boolean;
  rerun: boolean;
  target: string;
  notBefore: string | null;
  targets: { matching: number; members: number; silent: string[] } | null;
  sent: boolean;
};
const factsOf = ({ stdout }: Outcome): Facts => JSON.parse(stdout) as Facts;

interface Machine {
  operator: Operator;
  /** Runs submit. */
  submit: (...args: string[]) => Promise<Outcome>;
  /** Runs submit --json, and expects the exit status 0. */
  submitted: (...args: string[]) => Promise<Facts>;
}

function start(options: OperatorOptions = {}): Machine {
  const operator = makeOperator(options);
  const submit = (...args: string[]): Promise<Outcome> => runCommand('submit', args, operator);
  const submitted = async (...args: string[]): Promise<Facts> => {
    const outcome = await submit(...args, '--json');
    expect(outcome).toMatchObject({ status: 0 });
    return factsOf(outcome);
  };
  return { operator, submit, submitted };
}

/** An operator with both daemons up. */
async function startConnected(options: OperatorOptions = {}) {
  const transmission = await serveTransmission();
  const machine = start({ ...options, transmissionUrl: transmission.url });
  machine.operator.setMembers([{ name: 'n1', tags: {} }]);
  return { ...machine, transmission };
}

/** Expects a refusal in two lines (more with a caret) that changes nothing at all. */
async function refused(
  { operator, submit }: Machine,
  args: string[],
  status: number,
  message: RegExp,
): Promise<string> {
  const before = readTree(operator.directory);
  const outcome = await submit(...args);
  expect(outcome.status).toBe(status);
  // At most the kind that it was taken for, which is said before the fleet is asked.
  expect(outcome.stdout).toMatch(/^(".+" is taken for .+\n)?$/);
  expect(outcome.stderr).toMatch(message);
  expect(outcome.stderr).toMatch(/^submit: error: .+\nsubmit: hint: .+\n$/s);
  expect(readTree(operator.directory)).toEqual(before);
  return outcome.stderr;
}

describe('--target', () => {
  it('is signed, reported, and counted in the payload', async () => {
    const { operator, submitted } = start();
    const file = operator.file('a.bin', 'x');
    const all = await submitted(file, '--dry-run');
    const some = await submitted(file, '--dry-run', '--target', 'role=web');
    expect(all).toMatchObject({ target: '', targets: null });
    expect(some).toMatchObject({ target: 'role=web', targets: null });
    expect(parseAnnouncement(some.payload).update.target).toBe('role=web');
    expect(some.bytesUsed - all.bytesUsed).toBe('role=web'.length);
  });

  it('is refused when it is malformed, with a caret under the column', async () => {
    const machine = start();
    const file = machine.operator.file('a.bin', 'x');
    const args = [file, '--target', 'role=web,,x=1'];
    const stderr = await refused(machine, args, 65, /in column 10/);
    expect(stderr.split('\n').slice(1, 3)).toEqual(['  role=web,,x=1', `  ${' '.repeat(9)}^`]);
    const hostile = await refused(machine, [file, '--target', 'a=\u001b[2J'], 65, /in column 3/);
    expect(hostile).not.toContain('\u001b');
    expect(hostile.split('\n').slice(1, 3)).toEqual(['  a=?[2J', '    ^']);
    await refused(machine, ['--withdraw', 'web', '--target', '='], 65, /in column 1/);
    await refused(machine, ['--renew', '--target', '='], 65, /in column 1/);
  });

  it('is counted by the answers of the nodes, whatever Serf knows of their tags', async () => {
    const { operator, submit } = start();
    operator.setMembers([
      { name: 'n1', tags: {} },
      { name: 'n2', tags: { role: 'web' } },
      { name: 'n3', tags: { role: 'web' }, status: 'failed' },
    ]);
    setAnswers(operator, { n1: '{"matches":true}', n2: '{"matches":false}' });
    const file = operator.file('a.bin', 'x');
    const web = await submit(file, '--dry-run', '--json', '--target', 'role=web');
    expect(factsOf(web).targets).toEqual({ matching: 1, members: 3, silent: ['n3'] });
    expect(web.stderr).toBe('submit: warning: whether it is for n3 (down) is not known\n');
    const text = await submit(file, '--dry-run', '--target', 'role=web');
    expect(text.stdout).toMatch(/^target {6}role=web \(1 of 3 nodes, 1 without an answer\)$/m);
    operator.setMembers(undefined);
    const unknown = await submit(file, '--dry-run', '--target', 'role=web');
    expect(unknown).toMatchObject({ status: 0, stderr: '' });
    expect(unknown.stdout).toMatch(/^target {6}role=web \(Serf cannot be asked\)$/m);
  });

  it('that matches no node is refused, and nothing is sent, unless --force is given', async () => {
    const machine = start();
    const { operator, submit } = machine;
    operator.setMembers([
      { name: 'n1', tags: { role: 'cache' } },
      { name: 'n2', tags: {} },
    ]);
    setAnswers(operator, { n1: '{"matches":false}', n2: 'rubbish' });
    const file = operator.file('a.bin', 'x');
    const args = [file, '--target', 'role=cache'];
    const reason =
      /role=cache matches none of the 1 nodes that answer; whether it is for n2 \(no answer\) is not known/;
    expect(await refused(machine, args, 76, reason)).toContain('--force sends it all the same');
    expect(operator.sent()).toEqual([]);
    const forced = await submit(...args, '--dry-run', '--json', '--force');
    expect(forced.status).toBe(0);
    expect(factsOf(forced).targets).toEqual({ matching: 0, members: 2, silent: ['n2'] });
  });

  it('is refused when the announcement gets too long, with the bytes and the fields to shorten', async () => {
    const machine = start({ releases: 3, releaseThreshold: 3 });
    const name = `${'n'.repeat(30)}.bin`;
    const file = machine.operator.file(name, 'x');
    // Three signers leave 44 bytes: 34 of the name, 7 of the channel, 8 of the target are 49.
    const args = [file, '--target', 'role=web'];
    const stderr = await refused(machine, args, 65, /the announcement is 5 bytes too long/);
    expect(stderr).toContain('the name (34 bytes), the channel (7) or the target (8)');
    await refused(machine, [file, '--channel', 'c'.repeat(24)], 65, /14 bytes too long/);
  });
});

describe('--noop', () => {
  it('is signed and reported for an environment', async () => {
    const { operator, submit, submitted } = start();
    const directory = join(operator.directory, 'site');
    mkdirSync(join(directory, 'manifests'), { recursive: true });
    writeFileSync(join(directory, 'manifests/site.pp'), 'notice("x")\n');
    const facts = await submitted(directory, '--noop', '--dry-run');
    expect(facts).toMatchObject({ kind: 'environment', noop: true });
    expect(parseAnnouncement(facts.payload).update.noop).toBe(true);
    const told = await submit(directory, '--noop', '--dry-run');
    expect(told.stdout).toMatch(/^noop {8}nodes record what would change/m);
  });

  it('is refused for a file, which Puppet cannot try', async () => {
    const machine = start();
    const file = machine.operator.file('a.bin', 'x');
    await refused(machine, [file, '--noop', '--dry-run'], 64, /--noop has no meaning for a.bin/);
  });
});

describe('--wait', () => {
  it.each([
    ['with --dry-run', ['--wait', '--dry-run']],
    ['by --timeout alone', ['--timeout', '1h']],
    ['with a malformed span', ['--wait', '--timeout', '10']],
  ])('is refused %s', async (_, args) => {
    const machine = start();
    await refused(
      machine,
      [machine.operator.file('a.bin', 'x'), ...args],
      64,
      /--wait|span of time/,
    );
  });

  it('says that it is sent when the fleet cannot be asked about it', async () => {
    const { operator, submit } = await startConnected();
    const outcome = await submit(operator.file('a.bin', 'x'), '--wait', '--json');
    expect(outcome.status).toBe(69);
    expect(outcome.stderr).toMatch(/^submit: warning: it is sent, but the fleet cannot be asked/);
    expect(factsOf(outcome)).toMatchObject({ sent: true, verdict: null, nodes: null });
    expect(operator.sent()).toHaveLength(1);
  });
});

describe('the version', () => {
  it('is above those kept here and those that the node holds, also when none was sent', async () => {
    const { operator, submit, submitted } = start();
    const far = Math.floor(Date.now() / 1000) + 1000;
    const file = operator.file('a.bin', 'x');
    keepAccepted(operator.config.stateDir, { channel: 'default', version: far }, fact('x'));
    expect(await submitted(file, '--dry-run')).toMatchObject({ version: far + 1 });
    keepAnnouncement(operator, { channel: 'default', version: far + 7 }, 'x');
    expect(await submitted(file, '--dry-run')).toMatchObject({ version: far + 8 });
    const refusedVersion = await submit(file, '--version', String(far + 7), '--dry-run');
    expect(refusedVersion).toMatchObject({ status: 76 });
    expect(refusedVersion.stderr).toMatch(/is not above/);
    const other = await submitted(file, '--channel', 'other', '--dry-run');
    expect(other.version).toBeLessThan(far);
  });

  it('differs between submissions in one second, also while the daemons are down', async () => {
    const { operator, submit } = start();
    const file = operator.file('a.bin', 'x');
    const versions = [];
    for (let i = 0; i < 3; i += 1) {
      const { status, stderr } = await submit(file);
      expect(status).toBe(69);
      versions.push(/default@(\d+) is signed and kept/.exec(stderr)?.[1]);
    }
    expect(new Set(versions).size).toBe(3);
    expect(versions).not.toContain(undefined);
  });

  it('is refused where the versions of this node cannot be read', async () => {
    const machine = start();
    const { operator } = machine;
    const file = operator.file('a.bin', 'x');
    rmSync(operator.config.stateDir, { recursive: true });
    writeFileSync(operator.config.stateDir, 'in the way');
    const stderr = await refused(machine, [file], 78, /cannot read which versions there are/);
    expect(stderr).toMatch(/owner and mode .*p2p-update\S* doctor'?\n$/);
  });
});

describe('what this node makes of an update', () => {
  const silent =
    /is signed and kept, but this node's own handler has not taken it, so nobody may have heard of it/;
  const again = /\nsubmit: hint: \S+ doctor; then: \S+ submit --resend (\S+@\d+)\n$/;

  it('is waited for: an event that it does not hear is not sent, whichever command sends it', async () => {
    const { operator, submit } = await startConnected();
    const first = await submit(operator.file('a.bin', 'x'), '--channel', 'a');
    expect(first.stdout).toMatch(/\nsent to the fleet: this node has taken it\n$/);
    operator.file('deaf', '');
    const outcomes = await Promise.all([
      submit(operator.file('b.bin', 'x'), '--channel', 'b'),
      submit('--withdraw', 'c'),
      submit('--renew', '--json'),
      // Held from before, which proves nothing of this event.
      submit('--resend'),
      sendKeySet(operator),
    ]);
    for (const { status, stdout, stderr } of outcomes) {
      expect(status).toBe(75);
      expect(stdout).toMatch(/^(".+" is taken for .+\n)?$/);
      expect(stderr.replace(/^keys/gm, 'submit')).toMatch(silent);
      expect(stderr.replace(/^keys/gm, 'submit')).toMatch(again);
    }
    // Nothing is lost: it is sent again as it was.
    rmSync(join(operator.directory, 'deaf'));
    const key = again.exec(outcomes[0].stderr)?.[1] ?? '';
    expect(await submit('--resend', key)).toMatchObject({ status: 0 });
  });

  it.each<[string, string[]]>([
    ['one that is for other nodes', ['--target', 'node=n2']],
    ['one that waits for its time', ['--not-before', '+2h']],
  ])('is that it has taken it: %s', async (_, args) => {
    const { operator, submit } = await startConnected();
    setAnswers(operator, { n1: '{"matches":true}' });
    const { status, stdout, stderr } = await submit(operator.file('a.bin', 'x'), ...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/\nsent to the fleet: this node has taken it\n$/);
  });

  it('is told: a refusal with its reason, a channel that it does not follow as sent', async () => {
    const { operator, submit } = await startConnected();
    const file = join(operator.directory, 'config.json');
    const config = readFileSync(file, 'utf8');
    const configure = (change: object): void => {
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(config) as object), ...change }));
    };
    configure({ channels: ['web'] });
    const other = await submit(operator.file('a.bin', 'x'), '--channel', 'db');
    expect(other).toMatchObject({ status: 0, stderr: '' });
    expect(other.stdout).toMatch(
      /\nsent to the fleet: this node has heard it, and does not follow channel db\n$/,
    );
    configure({});
    const { version } = await submitOf(submit('--withdraw', 'web', '--json'));
    await submitOf(submit('--withdraw', 'web', '--json'));
    const old = await submit('--resend', `web@${version}`);
    expect(old).toMatchObject({ status: 75, stdout: '' });
    expect(old.stderr).toMatch(
      /but this node has refused it: version \d+ is older than \d+, the newest of channel web\n/,
    );
    operator.file('answers', '');
    // Another configuration than that of the agent: its state is not where this command looks.
    const strange = join(operator.directory, 'strange.json');
    writeFileSync(
      strange,
      JSON.stringify({
        ...(JSON.parse(config) as object),
        stateDir: join(operator.directory, 'elsewhere'),
      }),
    );
    const elsewhere = { ...operator, env: { P2P_UPDATE_CONFIG: strange } };
    expect(await runCommand('submit', ['--withdraw', 'far'], elsewhere)).toMatchObject({
      status: 0,
    });
  });
});

/** Sends a key set with one more release key, by the two commands. */
async function sendKeySet(operator: Operator): Promise<Outcome> {
  const { pub } = makeKeyFiles(operator.directory, 'new');
  const root = operator.roots[0]?.key ?? '';
  const out = join(operator.directory, 'proposal');
  await runCommand('keys', ['add', pub, '--root-key', root, '--out', out], operator);
  return runCommand('keys', ['send', out], operator);
}

async function submitOf(outcome: Promise<Outcome>): Promise<Facts> {
  return factsOf(await outcome);
}

describe('--withdraw', () => {
  it('stops a channel without Transmission, and is kept to be sent again', async () => {
    const { operator, submit, submitted } = start();
    // Credentials of Transmission that cannot be read must not matter.
    const file = join(operator.directory, 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, object>;
    const transmission = { ...config['transmission'], credentialsFile: '/nonexistent' };
    writeFileSync(file, JSON.stringify({ ...config, transmission }));
    const newest = Math.floor(Date.now() / 1000) + 1000;
    const known = holdUpdate(operator, { channel: 'web', version: newest });
    operator.setMembers([{ name: 'n1', tags: {} }]);
    setAnswers(operator, { n1: '{"matches":true}' });
    const facts = await submitted('--withdraw', 'web', '--target', 'role=web', '--expires', '30d');
    expect(facts).toMatchObject({
      kind: 'withdraw',
      channel: 'web',
      name: known.name,
      version: newest + 1,
      contentBytes: 0,
      pieces: null,
      target: 'role=web',
      targets: { matching: 1, members: 1, silent: [] },
      sent: true,
    });
    const { signed } = parseAnnouncement(facts.payload);
    verifyAnnouncement(signed, operator.keySet);
    const { created, expires } = signed.announcement;
    expect(expires - created).toBe(30 * 86_400);
    expect(operator.sent()).toEqual([facts.payload]);
    const again = await submit('--resend', `web@${newest + 1}`);
    expect(again).toMatchObject({ status: 0, stderr: '' });
    expect(again.stdout).toMatch(
      /^content {5}none: nodes stop what they have not applied of web$/m,
    );
    expect(operator.sent()).toEqual([facts.payload, facts.payload]);
  });

  it('is kept when Serf is down', async () => {
    const { operator, submit } = start();
    holdUpdate(operator, { channel: 'web', version: 5 });
    const { status, stderr } = await submit('--withdraw', 'web');
    expect(status).toBe(69);
    const key = /is signed and kept, but was not sent.*submit --resend (web@\d+)/s.exec(stderr);
    operator.setMembers([]);
    expect(await submit('--resend', key?.[1] ?? '')).toMatchObject({ status: 0, stderr: '' });
    expect(operator.sent()).toHaveLength(1);
  });

  it('warns of a channel without a known update, and sends nothing with --dry-run', async () => {
    const { operator, submit } = start();
    const before = readTree(operator.directory);
    const { status, stdout, stderr } = await submit('--withdraw', 'wbe', '--dry-run', '--json');
    expect(status).toBe(0);
    expect(stderr).toMatch(/^submit: warning: no update of channel wbe is known here/);
    expect(JSON.parse(stdout)).toMatchObject({ name: 'withdraw', sent: false });
    expect(readTree(operator.directory)).toEqual(before);
  });

  it('leaves out a name that is too long, and passes over a damaged record', async () => {
    const { operator, submitted } = start({ releases: 3, releaseThreshold: 3 });
    keepAnnouncement(operator, { channel: 'web', version: 9 }, 'not an announcement');
    holdUpdate(operator, { channel: 'web', version: 8, name: 'n'.repeat(20) });
    const stop = ['--withdraw', 'web', '--dry-run'];
    expect(await submitted(...stop)).toMatchObject({ name: 'n'.repeat(20) });
    const long = await submitted(...stop, '--target', 'datacenter=glasgow|edinburgh');
    expect(long).toMatchObject({ name: 'withdraw' });
  });

  it.each<[string, string[], number, RegExp]>([
    ['a file', ['a.bin', '--withdraw', 'web'], 64, /takes a channel, and no file/],
    ['--noop', ['--withdraw', 'web', '--noop'], 64, /--noop has no meaning with --withdraw/],
    ['--channel', ['--withdraw', 'web', '--channel', 'x'], 64, /--channel has no meaning/],
    ['the channel of key sets', ['--withdraw', 'keyset'], 64, /is for key sets alone/],
    ['a malformed channel', ['--withdraw', 'No'], 65, /the channel must be/],
  ])('refuses %s', async (_, args, status, message) => {
    await refused(start(), args, status, message);
  });
});

/** Puts another release key in the place of the operator's; returns the key set in force then. */
function replaceKeys(operator: Operator): KeySet {
  const fresh = makeKeyFiles(operator.directory, 'fresh');
  const add = { role: 'release', key: publicKeyOf(fresh.privateKey), channels: null } as const;
  const remove = operator.releases.map(({ id }) => id);
  const next = nextKeySet(operator.keySet, { add, remove });
  mkdirSync(keySetsDir(operator.config.applyDir));
  keepKeySet(operator.config.applyDir, 2, { text: formatKeySet(next), payload: 'unused' });
  const file = join(operator.directory, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, signingKeyFiles: [fresh.key] }));
  return next;
}

describe('--renew', () => {
  it('signs the same content again: a new version, expiry and target', async () => {
    const { operator, submit, submitted, transmission } = await startConnected();
    const file = operator.file('a.bin', 'content');
    const old = await submitted(file, '--channel', 'web', '--rerun', '--target', 'node=n1');
    // The original is no longer needed.
    rmSync(file);
    const facts = await submitted('--renew', '--expires', '2y');
    const { infoHash, sha256, name, kind } = old;
    expect(facts).toMatchObject({
      infoHash,
      sha256,
      name,
      kind,
      channel: 'web',
      target: 'node=n1',
    });
    expect(facts).toMatchObject({ rerun: false, pieces: 'in', sent: true });
    expect(facts.version).toBeGreaterThan(old.version);
    const { created, expires } = parseAnnouncement(facts.payload).signed.announcement;
    expect(expires - created).toBe(2 * 365 * 86_400);
    expect(operator.sent()).toEqual([old.payload, facts.payload]);
    expect(transmission.added[1]).toBe(transmission.added[0]);
    const wide = await submitted('--renew', `web@${old.version}`, '--target', '', '--dry-run');
    expect(wide).toMatchObject({ target: '', infoHash });
    const back = await submit('--renew', `web@${old.version}`, '--dry-run');
    expect(back.stderr).toMatch(/^submit: warning: web@\d+ is not the newest of its channel/);
  });

  it('renews the newest update that has content, and drops the pieces where they do not fit', async () => {
    const { operator, submitted } = await startConnected();
    const file = operator.file('a.bin', 'x'.repeat(16_384 * 6 + 1));
    const old = await submitted(file);
    expect(old.pieces).toBe('in');
    await submitted('--withdraw', 'other', '--version', String(old.version + 2 ** 19));
    const target = `role=${'w'.repeat(50)}`;
    const facts = await submitted('--renew', '--target', target);
    expect(facts).toMatchObject({ infoHash: old.infoHash, pieces: 'magnet', target });
    const back = await submitted('--renew', '--target', '');
    expect(back).toMatchObject({ infoHash: old.infoHash, pieces: 'in' });
  });

  it('signs an update of a removed key with the keys in force', async () => {
    const { operator, submitted } = await startConnected();
    const old = await submitted(operator.file('a.bin', 'x'));
    const next = replaceKeys(operator);
    const facts = await submitted('--renew');
    const [signer] = next.releaseKeys;
    expect(facts).toMatchObject({ infoHash: old.infoHash, epoch: 2, signers: [signer?.key.id] });
    verifyAnnouncement(parseAnnouncement(facts.payload).signed, next);
  });

  it('--all signs again whatever is in effect and was submitted here, each channel in its order', async () => {
    const { operator, submit, submitted } = await startConnected();
    const send = (text: string, ...args: string[]): Promise<Facts> =>
      submitted(operator.file(`${text}.bin`, text), ...args);
    await send('old', '--channel', 'web');
    const all = await send('all', '--channel', 'web');
    const canary = await send('canary', '--channel', 'web', '--target', 'node=n1');
    const late = await send('late', '--channel', 'late', '--not-before', '+2h');
    await send('stopped', '--channel', 'stop');
    const stop = await submitted('--withdraw', 'stop');
    // Of another operator, and held by this node.
    const theirs = holdUpdate(operator, { channel: 'theirs', version: late.version });
    const next = replaceKeys(operator);
    const due = await submit('--renew', '--all', '--json');
    expect(due.status).toBe(76);
    const name = `theirs@${theirs.version}`;
    expect(due.stderr).toMatch(
      new RegExp(
        `^submit: error: ${name} was submitted on another machine\nsubmit: hint: there: .+ --renew ${name}\n$`,
      ),
    );
    const renewed = due.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Facts);
    expect(renewed).toMatchObject([
      { channel: 'late', sha256: late.sha256, notBefore: late.notBefore, target: '' },
      { channel: 'stop', kind: 'withdraw' },
      { channel: 'web', sha256: all.sha256, target: '' },
      { channel: 'web', sha256: canary.sha256, target: 'node=n1' },
    ]);
    for (const { payload } of renewed) verifyAnnouncement(parseAnnouncement(payload).signed, next);
    const versions = renewed.map(({ version }) => version);
    expect(versions[1]).toBeGreaterThan(stop.version);
    expect(versions[2]).toBeGreaterThan(canary.version);
    expect(versions[3]).toBeGreaterThan(versions[2] ?? 0);
    // A withdrawal whose keys are trusted has nothing to renew.
    const again = await submit('--renew', '--all', '--dry-run');
    expect(again.stdout.match(/^\w+@\d+$/gm)).toEqual(
      [renewed[0], renewed[2], renewed[3]].map((each) => `${each?.channel}@${each?.version}`),
    );
  });

  it('--all goes on where the content of one update is gone, and ends with its status', async () => {
    const { operator, submit, submitted } = await startConnected();
    const gone = await submitted(operator.file('a.bin', 'a'), '--channel', 'a');
    await submitted(operator.file('b.bin', 'b'), '--channel', 'b');
    rmSync(join(operator.config.publishDir, `${gone.sha256.slice(0, 32)}-a.bin`));
    const { status, stdout, stderr } = await submit('--renew', '--all', '--json');
    expect({ status, channel: (JSON.parse(stdout) as Facts).channel }).toEqual({
      status: 76,
      channel: 'b',
    });
    expect(stderr).toMatch(/^submit: error: the content of a@\d+ is no longer in "publishDir"/);
  });

  it.each([['--all'], ['--renew', '--all', 'web@1'], ['--renew', '--all', '--target', 'a=b']])(
    'refuses %s %s %s',
    async (...args) => {
      await refused(start(), args, 64, /has no meaning|takes no update/);
    },
  );

  it('refuses content that is gone or has changed', async () => {
    const machine = await startConnected();
    const { operator, submitted } = machine;
    const old = await submitted(operator.file('a.bin', 'x'));
    const content = join(operator.config.publishDir, `${old.sha256.slice(0, 32)}-a.bin`);
    writeFileSync(content, 'y');
    await refused(machine, ['--renew'], 76, /the content of default@\d+ has changed/);
    writeFileSync(content, 'longer');
    await refused(machine, ['--renew'], 76, /the content of default@\d+ has changed/);
    rmSync(content);
    await refused(machine, ['--renew'], 76, /is no longer in "publishDir"/);
  });

  it('refuses an announcement without valid signatures of its own key set', async () => {
    const machine = start();
    const { operator } = machine;
    const id = { channel: 'web', version: 5 };
    const strangers = makeKeys('test-fleet');
    keepAnnouncement(operator, id, signAnnouncement(makeAnnouncement(id), strangers));
    await refused(machine, ['--renew'], 77, /is not a release key/);
    const later = makeAnnouncement({ ...id, epoch: 9 });
    keepAnnouncement(operator, id, signAnnouncement(later, strangers));
    await refused(machine, ['--renew'], 77, /key set 9, .* is not known here/);
  });

  it.each<[string, string[], number, RegExp]>([
    ['a renewal where nothing was kept', ['--renew'], 64, /no announcement that fits was kept/],
    ['an update that was not kept', ['--renew', 'web@1'], 64, /no announcement web@1 was kept/],
    ['--rerun', ['--renew', '--rerun'], 64, /--rerun has no meaning with --renew/],
    ['--resend as well', ['--renew', '--resend'], 64, /--renew has no meaning with --resend/],
  ])('refuses %s', async (_, args, status, message) => {
    await refused(start(), args, status, message);
  });

  it('refuses a withdrawal, which has no content', async () => {
    const machine = start();
    machine.operator.setMembers([]);
    const { version } = await machine.submitted('--withdraw', 'web');
    const args = ['--renew', `web@${version}`];
    await refused(machine, args, 64, /is a withdraw, which has nothing to renew/);
  });
});

describe('a public key', () => {
  it('is added to the key set and sent', async () => {
    const { operator, submit } = await startConnected();
    const fresh = makeKeyFiles(operator.directory, 'fresh');
    const args = [fresh.pub, '--root-key', operator.roots[0]?.key ?? '', '--channels', 'web'];
    const dry = await submit(...args, '--dry-run');
    expect(dry.stdout).toContain(`adds release key ${fresh.id}, channel web`);
    expect(operator.sent()).toEqual([]);
    const outcome = await submit(...args, '--json');
    expect(outcome).toMatchObject({ status: 0, stderr: '' });
    const facts = factsOf(outcome);
    expect(facts).toMatchObject({ kind: 'keyset', channel: 'keyset', version: 2, sent: true });
    expect(operator.sent()).toEqual([facts.payload]);
    verifyAnnouncement(parseAnnouncement(facts.payload).signed, operator.keySet);
  });

  it('becomes a proposal where others have to sign too', async () => {
    const { operator, submit } = start({ roots: 2, rootThreshold: 2 });
    const fresh = makeKeyFiles(operator.directory, 'fresh');
    const root = operator.roots[0]?.key ?? '';
    const { status, stdout } = await submit(fresh.pub, '--root-key', root, '--out', 'p.json');
    expect(status).toBe(0);
    expect(stdout).toContain('keys countersign p.json --root-key FILE\n');
    expect(existsSync(join(operator.directory, 'p.json'))).toBe(true);
    expect(operator.sent()).toEqual([]);
  });

  it('is refused without a root key, or with the options of an update', async () => {
    const machine = start();
    const { pub } = makeKeyFiles(machine.operator.directory, 'fresh');
    const stderr = await refused(machine, [pub], 64, /which only a root key can add/);
    expect(stderr).toContain('--root-key FILE');
    const root = machine.operator.roots[0]?.key ?? '';
    const args = [pub, '--root-key', root, '--channel', 'web'];
    await refused(machine, args, 64, /--channel has no meaning for a public key/);
    const file = machine.operator.file('a.bin', 'x');
    await refused(machine, [file, '--root-key', root], 64, /--root-key has no meaning for a file/);
  });

  it.each([
    ['as keygen writes it', (pem: string) => pem, 'my.key'],
    ['under any name', (pem: string) => pem, 'update.bin'],
    [
      'with text before it',
      (pem: string) => `Bag Attributes\n    friendlyName: x\n${pem}`,
      'a.pem',
    ],
    ['of another kind', (pem: string) => pem.replaceAll('PRIVATE', 'RSA PRIVATE'), 'rsa.pem'],
    ['of OpenSSH', (pem: string) => pem.replaceAll('PRIVATE', 'OPENSSH PRIVATE'), 'id_ed25519'],
  ])('is refused when it is a private one, %s', async (_, change, name) => {
    const machine = start();
    const { operator } = machine;
    const text = change(readFileSync(operator.releases[0]?.key ?? '', 'utf8'));
    const file = operator.file(name, text);
    await refused(machine, [file], 76, /holds a PRIVATE KEY/);
    const root = operator.roots[0]?.key ?? '';
    await refused(machine, [file, '--root-key', root], 76, /holds a PRIVATE KEY/);
    expect(readdirSync(operator.config.publishDir)).toEqual([]);
  });

  it('is told, when it is a private one, by a command that works when pasted', async () => {
    const machine = start();
    const { operator } = machine;
    const pem = readFileSync(operator.releases[0]?.key ?? '', 'utf8');
    const stderr = await refused(machine, [operator.file("o'neill's key.pem", pem)], 76, /PRIVATE/);
    const command = /its public half: (.*)\n$/.exec(stderr)?.[1] ?? '';
    const { status, stdout } = runSync(['sh', '-c', command]);
    expect(status).toBe(0);
    expect(stdout).toBe(readFileSync(operator.releases[0]?.pub ?? '', 'utf8'));
  });
});

describe('--resend', () => {
  it('shows the announcement with --dry-run, and sends the same bytes without', async () => {
    const { operator, submitted } = await startConnected();
    const { payload } = await submitted(operator.file('a.bin', 'x'));
    expect(await submitted('--resend', '--dry-run')).toMatchObject({ payload, sent: false });
    expect(operator.sent()).toEqual([payload]);
    expect(await submitted('--resend')).toMatchObject({ payload, sent: true });
    expect(operator.sent()).toEqual([payload, payload]);
  });

  it('refuses options that would change the announcement', async () => {
    const args = ['--resend', '--target', 'a=b'];
    await refused(start(), args, 64, /--target has no meaning with --resend/);
  });
});

describe('the same content again', () => {
  it('is sent with a warning that names --rerun, unless it is a file or for other nodes', async () => {
    const { operator, submit, submitted } = await startConnected();
    const manifest = operator.file('a.pp', 'notice("a")\n');
    const { version } = await submitted(manifest);
    const again = await submit(manifest);
    expect(again.status).toBe(0);
    expect(again.stderr).toMatch(
      new RegExp(`^submit: warning: this is the content of default@${version}, and nodes .+\\n$`),
    );
    expect(again.stderr).toContain(` ${shellCommand('submit', '--rerun', manifest)}\n`);
    for (const args of [
      ['--rerun', manifest],
      ['--target', 'node=n2', '--force', manifest],
    ])
      expect((await submit(...args)).stderr).not.toMatch(/--rerun/);
    const file = operator.file('a.bin', 'a');
    await submitted(file, '--channel', 'files');
    expect(await submit(file, '--channel', 'files')).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('renew, withdraw and resend', () => {
  it('take a channel, or one version of it, as an option of submit and as a command', async () => {
    const { operator, submit, submitted } = await startConnected();
    const old = await submitted(operator.file('a.bin', 'one'), '--channel', 'web');
    const web = await submitted(operator.file('a.bin', 'two'), '--channel', 'web');
    await submitted(operator.file('b.bin', 'three'), '--channel', 'db');
    const run = async (command: string, ...args: string[]): Promise<Facts> => {
      const outcome = await runCommand(command, [...args, '--dry-run', '--json'], operator);
      expect(outcome).toMatchObject({ status: 0 });
      return factsOf(outcome);
    };
    const [oldName, webName] = [`web@${old.version}`, `web@${web.version}`];
    for (const renewed of [await run('submit', '--renew', 'web'), await run('renew', 'web')])
      expect(renewed).toMatchObject({ channel: 'web', sha256: web.sha256 });
    expect(await run('renew', oldName)).toMatchObject({ channel: 'web', sha256: old.sha256 });
    expect(await run('submit', '--resend', 'web')).toMatchObject({ version: web.version });
    for (const stopped of [
      await run('submit', '--withdraw', 'web'),
      await run('submit', '--withdraw', webName),
      await run('withdraw', '--target', 'role=web', 'web'),
      await run('withdraw', webName),
    ])
      expect(stopped).toMatchObject({ kind: 'withdraw', channel: 'web' });

    const refusals: [args: string[], status: number, message: string][] = [
      [['--withdraw', oldName], 76, `${oldName} is not the newest of web, ${webName} is`],
      [['--withdraw', 'app@7'], 76, 'no update of channel app is known here, so app@7 neither'],
      [['--renew', 'app'], 64, 'no announcement of channel app was kept here'],
      [['--renew', 'No'], 64, '"No" is neither a channel nor CHANNEL@VERSION'],
    ];
    for (const [args, status, message] of refusals)
      expect([args, await submit(...args)]).toMatchObject([
        args,
        { status, stderr: expect.stringContaining(`error: ${message}\n`) as string },
      ]);
    expect(await runCommand('withdraw', [], operator)).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('no channel is named') as string,
    });
  });
});

it('submit --help shows every option', async () => {
  const { status, stdout, stderr } = await runCommand('submit', ['--help']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const options = [
    'channel',
    'name',
    'target',
    'noop',
    'version',
    'expires',
    'not-before',
    'rerun',
  ];
  const modes = ['withdraw', 'renew', 'resend', 'dry-run', 'json', 'help', 'root-key'];
  for (const option of [...options, ...modes]) expect(stdout).toContain(`--${option}`);
});

function fact(payload: string): { payload: string; acceptedAt: string } {
  return { payload, acceptedAt: '2026-01-01T00:00:00.000Z' };
}

/** Lets the operator's node hold an update that another operator submitted. */
function holdUpdate(operator: Operator, change: UpdateId & { name?: string }): Announcement {
  const announcement = makeAnnouncement({ name: 'web.pp', ...change });
  const payload = signAnnouncement(announcement, makeKeys());
  keepAccepted(operator.config.stateDir, change, fact(payload));
  return announcement;
}
