import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnnouncement } from '../../lib/announcement/update.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import type { Submitted } from '../support/fleet/submit.ts';
import { hasEvent } from '../support/fleet/submit.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { keepAnnouncement } from '../support/fleet/operator.ts';
import { clockOf } from '../support/run/faketime.ts';
import { distForOthers, programArgv } from '../support/run/program.ts';
import { readState } from '../support/run/state.ts';

let fleet: Fleet;
let operator: FleetNode;
let other: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2, joins: false });
  [operator, other] = fleet.nodes as [FleetNode, FleetNode];
});

afterAll(() => {
  fleet.stop();
});

function file(name: string, content: string): string {
  const path = join(fleet.directory, name);
  writeFileSync(path, content);
  return path;
}

/** The lines that a node has logged, but for the query for its newest version, which is harmless. */
const heard = (node: FleetNode) => node.events().filter(({ handler }) => handler !== 'latest');

describe('submit refuses', () => {
  const sentNothing = async (args: string[], status: number, message: RegExp): Promise<void> => {
    const before = readState(operator.config.publishDir);
    const seen = heard(other);
    const result = await operator.script('submit', args);
    expect(result).toMatchObject({ status, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toMatch(/^submit: error: .+\nsubmit: hint: .+\n$/s);
    expect(readState(operator.config.publishDir)).toEqual(before);
    expect(heard(other)).toEqual(seen);
  };

  it.each<[string, () => string[], number, RegExp]>([
    ['nothing', () => [], 64, /no file is named/],
    ['two files', () => ['a', 'b'], 64, /one file at a time/],
    ['an unknown option', () => ['--chanel', 'x', 'a'], 64, /--chanel/],
    ['a missing file', () => [join(fleet.directory, 'none.pp')], 64, /there is no such file/],
    ['a device', () => ['/dev/null'], 64, /special file/],
    ['an empty file', () => [file('empty.bin', '')], 65, /is empty/],
    [
      'a manifest that does not parse, and names the file, line and column',
      () => [file('bad.pp', 'file { "/x":\n  ensure => \n}\n')],
      65,
      /error: "(?!.*\.submit-)\/.+\/bad\.pp" does not parse: line 3, column 1: Syntax error at '}'\n.*puppet parser validate '\/.+\/bad\.pp'\n$/s,
    ],
    ['a name with a space', () => [file('two words.bin', 'x')], 64, /two words.*--name two-words/s],
    ['a name with quotes', () => [file(`it's"so".bin`, 'x')], 64, /--name it-s-so-.bin/],
    ['a name with a newline', () => [file('a\nb.bin', 'x')], 64, /a\\nb.bin/],
    ['a name in another script', () => [file('обновление', 'x')], 64, /--name update.bin/],
    ['a leading dash', () => ['--', file('-rf', 'x')], 64, /--name rf/],
    ['a leading dot', () => [file('.profile', 'x')], 64, /--name profile/],
    ['a bad --name', () => ['--name', '../evil', file('a.bin', 'x')], 64, /--name is/],
    ['a bad channel', () => ['--channel', 'No', file('a.bin', 'x')], 65, /channel/],
    ['a bad span', () => ['--expires', '1 year', file('a.bin', 'x')], 64, /span of time/],
    ['a time without a zone', () => ['--not-before', '2030-01-01T00:00', 'x'], 64, /moment/],
    ['a version of zero', () => ['--version', '0', file('a.bin', 'x')], 64, /whole number/],
    [
      'an archive that is cut off',
      () => [file('cut.tar.gz', '\u001f\u008b\u0008')],
      65,
      /archive cannot be used/,
    ],
    [
      'a directory without manifests',
      () => {
        const directory = join(fleet.directory, 'plain');
        mkdirSync(directory, { recursive: true });
        return [directory];
      },
      65,
      /without manifests/,
    ],
  ])('%s', async (_, args, status, message) => {
    await sentNothing(args(), status, message);
  });

  it('by a clock that is 400 days ahead, or 500 behind, and tells the time of the fleet', async () => {
    const now = new Date().toISOString().slice(0, 11);
    for (const [days, status] of [
      [400, 76],
      [-500, 75],
    ] as const)
      for (const args of [[file('dated.bin', 'x')], ['--withdraw', 'default']]) {
        const before = readState(operator.config.publishDir);
        const result = await operator.script('submit', args, { env: clockOf(days) });
        expect(result).toMatchObject({ status, stdout: '' });
        expect(result.stderr).toMatch(
          /^submit: error: the clock of this machine says .*; by that of another member it is .*\nsubmit: hint: timedatectl /,
        );
        expect(result.stderr).toContain(`it is ${now}`);
        expect(readState(operator.config.publishDir)).toEqual(before);
      }
  });

  it('a file above the configured size', async () => {
    const configFile = join(operator.directory, 'small.json');
    writeFileSync(configFile, JSON.stringify({ ...operator.config, maxContentBytes: 10 }));
    const env = { P2P_UPDATE_CONFIG: configFile };
    const result = await operator.script('submit', [file('large.bin', 'x'.repeat(11))], { env });
    expect(result).toMatchObject({ status: 76 });
    expect(result.stderr).toMatch(/11 bytes, more than 10/);
  });

  it('a file that it may not read', async () => {
    const path = file('secret.bin', 'x');
    // The file itself must be the only obstacle.
    for (const directory of [fleet.directory, dirname(fleet.directory)])
      chmodSync(directory, 0o755);
    chmodSync(path, 0o600);
    // Root ignores mode bits.
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const submit = programArgv('p2p-update.cjs submit', distForOthers());
    const command = [...nobody, ...submit, '--dry-run', path];
    const result = await operator.run(command, { cwd: '/' });
    expect(result.stderr).toMatch(/secret.bin.*cannot be read/);
    expect(result).toMatchObject({ status: 64, stdout: '' });
  });
});

describe('a channel with a kept announcement that was signed 400 days ahead', () => {
  it('is freed by an ordinary submit, and by the emergency stop', async () => {
    const created = Math.floor(Date.now() / 1000) + 400 * 86_400;
    const change = { channel: 'wedged', version: created, created, expires: created + 86_400 };
    const payload = signAnnouncement(makeAnnouncement(change), fleet.keys);
    keepAnnouncement(operator, { channel: 'wedged', version: created }, payload);
    // Sent then, and refused by all: as submit did it.
    await operator.serfCommand(['event', '-coalesce=false', 'update', payload]);
    await fleet.waitFor('the other node refuses it', () => hasEvent(other, change, 'refuse'));
    for (const args of [
      ['--channel', 'wedged', file('a.bin', 'x')],
      ['--withdraw', 'wedged'],
    ]) {
      const result = await operator.script('submit', [...args, '--json']);
      expect(result).toMatchObject({ status: 0 });
      const sent = JSON.parse(result.stdout) as Submitted;
      await fleet.waitFor('the other node takes it', () => hasEvent(other, sent, 'accept'));
    }
    const again = await operator.script('submit', ['--resend', `wedged@${created}`]);
    expect(again).toMatchObject({ status: 76, stdout: '' });
    expect(again.stderr).toMatch(
      /nodes would refuse wedged@\d+: it was created \d+ s in the future/,
    );
  });
});

describe('submit --dry-run', () => {
  it('prints the announcement, and sends and keeps none', async () => {
    const before = readState(operator.config.publishDir);
    const path = file('dry.bin', 'x'.repeat(100_000));
    const result = await operator.script('submit', ['--dry-run', '--json', path]);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    const facts = JSON.parse(result.stdout) as Submitted & { sent: boolean; bytesBudget: number };
    expect(facts).toMatchObject({ sent: false, submittedAt: null, pieces: 'in', bytesBudget: 351 });
    expect(parseAnnouncement(facts.payload).update).toMatchObject({ name: 'dry.bin', length: 1e5 });
    expect(readState(operator.config.publishDir)).toEqual(before);
    expect(other.events().some(({ version }) => version === facts.version)).toBe(false);
  });
});
