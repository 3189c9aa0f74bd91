import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { encodeAnnouncement, encodeBody } from '../../lib/announcement/codec.ts';
import { programFile } from '../../lib/build.ts';
import { shellCommand } from '../../lib/command-hint.ts';
import { formatKeySet, parseKeySet, type KeySet } from '../../lib/trust/key-set.ts';
import { signBody, verifyAnnouncement } from '../../lib/trust/verify.ts';
import { parseAnnouncement } from '../../lib/announcement/update.ts';
import { makeAnnouncement } from '../support/fleet/announce.ts';
import {
  runCommand,
  makeKeyFiles,
  makeOperator,
  serveTransmission,
  keepAnnouncement,
  type KeyFiles,
  type Operator,
  type OperatorOptions,
} from '../support/fleet/operator.ts';
import { readTree } from '../support/run/tree.ts';

/** An operator, and a new key to add to the key set. */
function start(options: OperatorOptions = {}): {
  operator: Operator;
  fresh: KeyFiles;
  keys: (...args: string[]) => ReturnType<typeof runCommand>;
} {
  const operator = makeOperator(options);
  const fresh = makeKeyFiles(operator.directory, 'fresh');
  return { operator, fresh, keys: (...args) => runCommand('keys', args, operator) };
}

const twoRoots: OperatorOptions = { roots: 2, rootThreshold: 2 };
const root = (operator: Operator, index = 0): string => operator.roots[index]?.key ?? '';
const proposal = 'keyset-2.proposal.json';

interface Facts {
  changes: string[];
  signed: string[];
  missing: string[];
  complete: boolean;
  file: string | null;
  renew: { command: string }[];
}
const factsOf = ({ stdout }: { stdout: string }): Facts => JSON.parse(stdout) as Facts;

describe('keys list', () => {
  it('shows the key set in force as a table, as JSON and as its text', async () => {
    const { operator, keys } = start({ roots: 2, releases: 2, releaseThreshold: 2 });
    const [r1, r2] = operator.roots.map(({ id }) => id);
    const [k1, k2] = operator.releases.map(({ id }) => id);
    const table = await keys('list');
    expect(table).toMatchObject({ status: 0, stderr: '' });
    expect(table.stdout).toBe(
      [
        'fleet              test-fleet',
        'epoch              1',
        'root threshold     1 of 2',
        'release threshold  2 of 2',
        '',
        'role     id                channels',
        `root     ${r1}  -`,
        `root     ${r2}  -`,
        `release  ${k1}  *`,
        `release  ${k2}  *`,
        '',
      ].join('\n'),
    );
    const text = await keys('list', '--text');
    expect(text.stdout).toBe(readFileSync(operator.config.keySetFile, 'utf8'));
    const json = await keys('list', '--json');
    expect(JSON.parse(json.stdout)).toEqual({
      fleet: 'test-fleet',
      epoch: 1,
      rootThreshold: 1,
      releaseThreshold: 2,
      rootKeys: [{ id: r1 }, { id: r2 }],
      releaseKeys: [
        { id: k1, channels: null },
        { id: k2, channels: null },
      ],
      proposal: null,
    });
  });

  it('shows the changes of a proposal and its signatures so far', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    await keys('add', fresh.pub, '--root-key', root(operator));
    const { status, stdout, stderr } = await keys('list', proposal);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^epoch {14}2$/m);
    expect(stdout).toContain(`release  ${fresh.id}  *`);
    expect(stdout).toContain(`adds release key ${fresh.id}, all channels`);
    expect(stdout).toMatch(new RegExp(`^signed by +${operator.roots[0]?.id}$`, 'm'));
    expect(stdout).toMatch(new RegExp(`^to sign +${operator.roots[1]?.id}$`, 'm'));
    const text = await keys('list', proposal, '--text');
    expect(parseKeySet(text.stdout).epoch).toBe(2);
    // Where another key set is in force, the proposal is shown with a warning, and without its signatures.
    const elsewhere = start(twoRoots);
    writeFileSync(
      join(elsewhere.operator.directory, proposal),
      readFileSync(join(operator.directory, proposal)),
    );
    const strange = await elsewhere.keys('list', proposal);
    expect(strange.status).toBe(0);
    expect(strange.stderr).toMatch(/warning: it cannot be signed here: .*not a root key/);
    expect(strange.stdout).not.toContain('signed by');
  });
});

describe('a change of the key set', () => {
  it('is prepared by one holder, countersigned by the other, and then verifies on every node', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    const first = await keys('add', fresh.pub, '--root-key', root(operator), '--channels', 'web');
    expect(first).toMatchObject({ status: 0, stderr: '' });
    expect(first.stdout).toContain('key set 1 -> 2 of fleet test-fleet\n');
    expect(first.stdout).toContain(`  adds release key ${fresh.id}, channel web\n`);
    expect(first.stdout).toContain(`keys countersign ${proposal} --root-key FILE\n`);
    const unfinished = await keys('send', proposal);
    expect(unfinished).toMatchObject({ status: 76, stdout: '' });
    expect(unfinished.stderr).toMatch(/has not signed yet/);
    const second = await keys('countersign', proposal, '--root-key', root(operator, 1));
    expect(second).toMatchObject({ status: 0, stderr: '' });
    // Computed from the two key sets, and not taken from the file.
    expect(second.stdout).toContain(`  adds release key ${fresh.id}, channel web\n`);
    expect(second.stdout).toContain(`keys send ${proposal}\n`);
    const dry = await keys('send', proposal, '--dry-run', '--json');
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    const { payload } = JSON.parse(dry.stdout) as { payload: string };
    verifyAnnouncement(parseAnnouncement(payload).signed, operator.keySet);
    expect(readdirSync(operator.config.publishDir)).toEqual([]);
  });

  it('is complete at once when one root key is enough', async () => {
    const { operator, fresh, keys } = start();
    const args = ['add', fresh.pub, '--root-key', root(operator), '--out', 'next.json', '--json'];
    const added = await keys(...args);
    expect(factsOf(added)).toMatchObject({
      complete: true,
      missing: [],
      signed: [operator.roots[0]?.id],
      file: 'next.json',
    });
  });

  it('can be signed with several keys at once, or by the holders that --with names', async () => {
    const { operator, fresh, keys } = start({ roots: 3, rootThreshold: 2 });
    const unnamed = await keys('add', fresh.pub, '--root-key', root(operator));
    expect(unnamed).toMatchObject({ status: 64, stdout: '' });
    expect(unnamed.stderr).toMatch(/hint: say who countersigns: --with/);
    const third = operator.roots[2]?.id ?? '';
    const args = ['--root-key', root(operator), '--with', third.slice(0, 10), '--json'];
    expect(factsOf(await keys('add', fresh.pub, ...args))).toMatchObject({ missing: [third] });
    const uninvited = await keys('countersign', proposal, '--root-key', root(operator, 1));
    expect(uninvited).toMatchObject({ status: 76, stdout: '' });
    expect(uninvited.stderr).toMatch(/is not asked to sign this proposal/);
    const signed = await keys('countersign', proposal, '--root-key', root(operator, 2), '--json');
    expect(factsOf(signed)).toMatchObject({ complete: true });
    const both = ['--root-key', root(operator), '--root-key', root(operator, 1)];
    const atOnce = await keys('add', fresh.pub, ...both, '--out', 'both.json', '--json');
    expect(factsOf(atOnce)).toMatchObject({ complete: true });
  });

  it('can be of thresholds and channels alone', async () => {
    const { operator, keys } = start({ releases: 2 });
    const [k1 = '', k2 = ''] = operator.releases.map(({ id }) => id);
    const base = ['--root-key', root(operator), '--dry-run', '--json'];
    const limited = await keys('set', k1.slice(0, 8), '--channels', 'web,db', ...base);
    expect(factsOf(limited).changes).toEqual([
      `release key ${k1}: all channels -> channels db, web`,
    ]);
    const raised = await keys('set', '--threshold', '2', ...base);
    expect(factsOf(raised).changes).toEqual(['release threshold 1 -> 2']);
    const args = ['--channels', 'web', '--threshold', '2', '--root-key', root(operator)];
    const shut = await keys('set', k2, ...args, '--dry-run');
    expect(shut.stdout).toMatch(/updates can be signed for channel web only/);
  });

  it('writes nothing with --dry-run, and reports the same', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    const before = readTree(operator.directory);
    const args = ['add', fresh.pub, '--root-key', root(operator), '--json'];
    const dry = await keys(...args, '--dry-run');
    expect(readTree(operator.directory)).toEqual(before);
    const wet = await keys(...args);
    expect({ ...factsOf(wet), file: null }).toEqual(factsOf(dry));
    const proposed = readFileSync(join(operator.directory, proposal), 'utf8');
    const check = await keys('countersign', proposal, '--root-key', root(operator, 1), '--dry-run');
    expect(check.stdout).toMatch(/dry run: nothing was written/);
    expect(readFileSync(join(operator.directory, proposal), 'utf8')).toBe(proposed);
  });

  it('stays as it is when it has the signature already', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    await keys('add', fresh.pub, '--root-key', root(operator));
    const before = readTree(operator.directory);
    const again = await keys('countersign', proposal, '--root-key', root(operator));
    expect(again).toMatchObject({ status: 0, stderr: '' });
    expect(again.stdout).toMatch(/it had this signature already/);
    expect(readTree(operator.directory)).toEqual(before);
  });

  it('needs no node where --keyset names the key set in force', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    const trust = ['--keyset', operator.config.keySetFile];
    const offLine = { directory: operator.directory, env: { P2P_UPDATE_CONFIG: '/nonexistent' } };
    const args = ['add', fresh.pub, '--root-key', root(operator), ...trust];
    expect(await runCommand('keys', args, offLine)).toMatchObject({ status: 0, stderr: '' });
    const signed = await runCommand(
      'keys',
      ['countersign', proposal, '--root-key', root(operator, 1), ...trust],
      offLine,
    );
    expect(signed).toMatchObject({ status: 0, stderr: '' });
    expect(await keys('send', proposal, '--dry-run')).toMatchObject({ status: 0 });
  });

  it('contains no private key, and neither does the report', async () => {
    const { operator, fresh, keys } = start(twoRoots);
    const before = new Set(Object.keys(readTree(operator.directory)));
    const outcomes = [
      await keys('add', fresh.pub, '--root-key', root(operator), '--json'),
      await keys('countersign', proposal, '--root-key', root(operator, 1)),
    ];
    const secrets = operator.roots.map(({ key }) => readFileSync(key, 'utf8').split('\n')[1] ?? '');
    const written = Object.entries(readTree(operator.directory)).filter(
      ([path]) => !before.has(path),
    );
    expect(written.map(([path]) => path)).toEqual([proposal]);
    for (const text of [
      ...outcomes.flatMap(({ stdout, stderr }) => [stdout, stderr]),
      ...written.flat(),
    ])
      for (const secret of secrets) expect(text).not.toContain(secret);
  });
});

describe('a removed key', () => {
  it('leaves a list of the updates to sign again', async () => {
    const { operator, keys } = start({ releases: 2, releaseThreshold: 1 });
    const [gone, stays] = operator.releases as [KeyFiles, KeyFiles];
    const now = Math.floor(Date.now() / 1000);
    keep(operator, { channel: 'web', version: 1 }, gone);
    keep(operator, { channel: 'web', version: 2 }, gone);
    keep(operator, { channel: 'web', version: 3, target: 'role=db' }, gone);
    keep(operator, { channel: 'db', version: 1 }, gone);
    keep(operator, { channel: 'db', version: 2 }, stays);
    keep(operator, { channel: 'old', version: 1, created: now - 9, expires: now - 5 }, gone);
    keep(operator, { channel: 'stop', version: 4, target: "a='b", kind: 'withdraw' }, gone);
    const args = ['remove', gone.id.slice(0, 9), '--root-key', root(operator)];
    const { status, stdout, stderr } = await keys(...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain(`removes release key ${gone.id}`);
    const program = `  ${shellCommand(programFile())} `;
    const lines = stdout.split('\n').filter((line) => line.startsWith(`${program}submit `));
    // The one for all nodes first: signed again after it, it would supersede the one for some.
    expect(lines.map((line) => line.slice(program.length))).toEqual([
      'submit --renew --all',
      `submit --withdraw stop --target 'a='\\''b'`,
      'submit --renew web@2',
      'submit --renew web@3',
    ]);
  });

  it('leaves an empty list where no announcement was kept', async () => {
    const { operator, keys } = start({ releases: 2 });
    const args = ['remove', operator.releases[0]?.id ?? '', '--root-key', root(operator)];
    expect((await keys(...args)).stdout).toMatch(/none of those that are kept here/);
  });

  function keep(
    operator: Operator,
    change: Parameters<typeof makeAnnouncement>[0] & { channel: string; version: number },
    { id, privateKey }: KeyFiles,
  ): void {
    const none = { infoHash: '0'.repeat(40), sha256: '0'.repeat(64), length: 0, pieceLength: 0 };
    const empty = change.kind === 'withdraw' ? { ...none, pieces: new Uint8Array() } : {};
    const body = encodeBody(makeAnnouncement({ ...change, ...empty }), [id]);
    const payload = encodeAnnouncement(body, [signBody(body, 'test-fleet', privateKey)]);
    keepAnnouncement(operator, change, payload);
  }
});

describe('keys send', () => {
  it('publishes the key set, seeds it and tells the fleet; --resend repeats it', async () => {
    const transmission = await serveTransmission();
    const { operator, fresh, keys } = start({ transmissionUrl: transmission.url });
    operator.setMembers([]);
    await keys('add', fresh.pub, '--root-key', root(operator));
    const sent = await keys('send', proposal, '--json');
    expect(sent).toMatchObject({ status: 0, stderr: '' });
    const facts = JSON.parse(sent.stdout) as { payload: string; sha256: string; name: string };
    expect(facts).toMatchObject({ kind: 'keyset', channel: 'keyset', version: 2, sent: true });
    expect(operator.sent()).toEqual([facts.payload]);
    expect(transmission.added).toHaveLength(1);
    const content = join(operator.config.publishDir, `${facts.sha256.slice(0, 32)}-${facts.name}`);
    expect(parseKeySet(readFileSync(content, 'utf8')).epoch).toBe(2);
    const again = await runCommand('submit', ['--resend', 'keyset@2'], operator);
    expect(again).toMatchObject({ status: 0, stderr: '' });
    expect(await keys('send', proposal)).toMatchObject({ status: 0 });
    expect(operator.sent()).toEqual([facts.payload, facts.payload, facts.payload]);
  });

  it('keeps the announcement that it could not send', async () => {
    const { operator, fresh, keys } = start();
    await keys('add', fresh.pub, '--root-key', root(operator));
    const { status, stderr } = await keys('send', proposal);
    expect(status).toBe(69);
    expect(stderr).toMatch(/keyset@2 is signed and kept, but was not sent/);
    expect(stderr).toMatch(/submit --resend keyset@2/);
  });

  it('sends no second key set of one epoch', async () => {
    const transmission = await serveTransmission();
    const { operator, fresh, keys } = start({ transmissionUrl: transmission.url });
    operator.setMembers([]);
    const other = makeKeyFiles(operator.directory, 'other');
    await keys('add', fresh.pub, '--root-key', root(operator));
    await keys('add', other.pub, '--root-key', root(operator), '--out', 'other.json');
    expect(await keys('send', proposal)).toMatchObject({ status: 0 });
    const before = readTree(operator.config.publishDir);
    const second = await keys('send', 'other.json');
    expect(second).toMatchObject({ status: 76, stdout: '' });
    expect(second.stderr).toMatch(/another key set 2 was sent to the fleet already/);
    expect(readTree(operator.config.publishDir)).toEqual(before);
    expect(operator.sent()).toHaveLength(1);
  });
});

describe('keys', () => {
  const refused = async (
    { operator, keys }: ReturnType<typeof start>,
    args: string[],
    status: number,
    message: RegExp,
  ): Promise<void> => {
    const before = readTree(operator.directory);
    const outcome = await keys(...args);
    expect(outcome).toMatchObject({ status, stdout: '' });
    expect(outcome.stderr).toMatch(message);
    expect(outcome.stderr).toMatch(/^keys: error: .+\nkeys: hint: .+\n$/);
    expect(readTree(operator.directory)).toEqual(before);
  };

  it.each<[string, (machine: ReturnType<typeof start>) => string[], number, RegExp]>([
    ['no command', () => [], 64, /no command/],
    ['an unknown command', () => ['sign'], 64, /there is no command sign/],
    ['an unknown option', () => ['list', '--force'], 64, /--force/],
    ['an option of another command', () => ['list', '--root'], 64, /--root has no meaning/],
    ['two files to list', () => ['list', 'a', 'b'], 64, /one at a time/],
    ['a missing file to list', () => ['list', 'none.json'], 64, /cannot read "none.json"/],
    ['a file that is no proposal', ({ fresh }) => ['list', fresh.pub], 65, /not a proposal/],
    ['add without a key', () => ['add', '--root-key', 'x'], 64, /public key file must be named/],
    ['add without a root key', ({ fresh }) => ['add', fresh.pub], 64, /--root-key FILE is needed/],
    ['remove without an id', () => ['remove', '--root-key', 'x'], 64, /no key is named/],
    ['set without anything', () => ['set', '--root-key', 'x'], 64, /set needs a threshold/],
    [
      'to set a key without its channels',
      () => ['set', 'ab', '--root-key', 'x'],
      64,
      /go together/,
    ],
    [
      'a threshold of 4',
      ({ fresh }) => ['add', fresh.pub, '--root-key', 'x', '--threshold', '4'],
      64,
      /--threshold must be 1 to 3/,
    ],
    [
      'channels of a root key',
      ({ fresh }) => ['add', fresh.pub, '--root', '--channels', 'a', '--root-key', 'x'],
      64,
      /a root key has no channels/,
    ],
    [
      'a missing public key',
      ({ operator }) => ['add', 'none.pub', '--root-key', root(operator)],
      64,
      /cannot read "none.pub"/,
    ],
    [
      'a private key in place of the public one',
      ({ operator, fresh }) => ['add', fresh.key, '--root-key', root(operator)],
      76,
      /holds a PRIVATE KEY/,
    ],
    [
      'a file that is no key',
      ({ operator }) => ['add', operator.config.keySetFile, '--root-key', root(operator)],
      77,
      /is not a public key in PEM/,
    ],
    [
      'a damaged public key',
      ({ operator, fresh }) => [
        'add',
        operator.file('bad.pub', readFileSync(fresh.pub, 'utf8').replace('MCow', 'MCox')),
        '--root-key',
        root(operator),
      ],
      77,
      /not an Ed25519 public key/,
    ],
    [
      'the same key again',
      ({ operator }) => ['add', operator.releases[0]?.pub ?? '', '--root-key', root(operator)],
      76,
      /is a release key of this key set already/,
    ],
    [
      'a root key as release key',
      ({ operator }) => ['add', operator.roots[0]?.pub ?? '', '--root-key', root(operator)],
      76,
      /is a root key of this key set already/,
    ],
    [
      'to leave no release key',
      ({ operator }) => ['remove', operator.releases[0]?.id ?? '', '--root-key', root(operator)],
      76,
      /no release key would be left/,
    ],
    [
      'to leave too few root keys',
      ({ operator }) => ['remove', operator.roots[0]?.id ?? '', '--root-key', root(operator)],
      76,
      /1 root key could not reach the root threshold of 2/,
    ],
    [
      'a malformed channel',
      ({ operator, fresh }) => ['add', fresh.pub, '--channels', 'No', '--root-key', root(operator)],
      65,
      /channels/,
    ],
    [
      'a release key as root key',
      ({ operator, fresh }) => ['add', fresh.pub, '--root-key', operator.releases[0]?.key ?? ''],
      77,
      /is a release key, not a root key/,
    ],
    [
      'a key that is no root key',
      ({ fresh }) => ['add', fresh.pub, '--root-key', fresh.key],
      77,
      /is not a root key of key set 1/,
    ],
    [
      'a missing root key',
      ({ fresh }) => ['add', fresh.pub, '--root-key', 'none.key'],
      78,
      /cannot read the private key none.key/,
    ],
    [
      'a root key that others can read',
      ({ operator, fresh }) => {
        chmodSync(root(operator), 0o640);
        return ['add', fresh.pub, '--root-key', root(operator)];
      },
      78,
      /others can read the private key/,
    ],
    [
      'a directory that is not there',
      ({ operator, fresh }) => ['add', fresh.pub, '--root-key', root(operator), '--out', 'no/p'],
      64,
      /cannot write no\/p/,
    ],
    [
      'to write over a file',
      ({ operator, fresh }) => {
        operator.file(proposal, 'signed already');
        return ['add', fresh.pub, '--root-key', root(operator)];
      },
      76,
      /exists already/,
    ],
  ])('refuses %s', async (_, args, status, message) => {
    const machine = start(twoRoots);
    await refused(machine, args(machine), status, message);
  });

  it('refuses a proposal that was altered on its way', async () => {
    const machine = start(twoRoots);
    const { operator, fresh, keys } = machine;
    await keys('add', fresh.pub, '--root-key', root(operator));
    const thief = makeKeyFiles(operator.directory, 'thief');
    const text = readFileSync(join(operator.directory, proposal), 'utf8');
    const theirs = await keys(
      'add',
      thief.pub,
      '--root-key',
      root(operator),
      '--out',
      'their.json',
    );
    expect(theirs.status).toBe(0);
    const swapped = JSON.parse(
      readFileSync(join(operator.directory, 'their.json'), 'utf8'),
    ) as object;
    const { keySet } = swapped as { keySet: string };
    operator.file(proposal, JSON.stringify({ ...(JSON.parse(text) as object), keySet }));
    const args = ['countersign', proposal, '--root-key', root(operator, 1)];
    await refused(machine, args, 65, /not that of the key set/);
  });

  it('refuses a proposal for another key set than the one in force', async () => {
    const machine = start(twoRoots);
    const { operator, fresh, keys } = machine;
    await keys('add', fresh.pub, '--root-key', root(operator));
    const later: KeySet = { ...operator.keySet, epoch: 2 };
    operator.file('keyset.txt', formatKeySet(later));
    const args = ['countersign', proposal, '--root-key', root(operator, 1)];
    await refused(machine, args, 76, /is for key set 2, and 2 is in force here/);
    operator.file('keyset.txt', formatKeySet({ ...operator.keySet, fleet: 'other' }));
    await refused(machine, args, 77, /is for fleet test-fleet/);
  });
});

describe('keys --help', () => {
  it('shows every command and option', async () => {
    const { status, stdout, stderr } = await runCommand('keys', ['--help']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const word of ['list', 'add', 'remove', 'set', 'countersign', 'send'])
      expect(stdout).toMatch(new RegExp(`keys ${word} `));
    for (const option of ['root-key', 'with', 'channels', 'threshold', 'root-threshold', 'keyset'])
      expect(stdout).toContain(`--${option}`);
  });
});
