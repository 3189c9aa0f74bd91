import { spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { commandHint } from '../../lib/command-hint.ts';
import { verdictStatuses } from '../../lib/query/judge-fleet.ts';
import type { NodeSummary } from '../../lib/query/node-summary.ts';
import { age, localTime } from '../../scripts/cli/time.ts';
import { parseCommand } from '../../scripts/status/arguments.ts';
import { statusJson, statusLines, type Report, type View } from '../../scripts/status/report.ts';
import {
  announcedManifest,
  channelFacts,
  madeAt,
  madeLargeReport,
  madeReport,
  nodeSummary,
} from '../support/fleet/made-fleet.ts';
import { makeOperator } from '../support/fleet/operator.ts';
import { programArgv } from '../support/run/program.ts';
import { refusal } from '../support/run/refusal.ts';

// Tests that need a fleet are in test/integration/fleet-status.test.ts and test/attacks/freeze.test.ts.

const at = madeAt;
const version = at - 50;
const wide: View = { rows: 'problems', node: undefined, width: Infinity, height: null };

/** The report on one node that has applied one manifest. */
function soundReport(): Report {
  return madeReport(
    { n1: nodeSummary([channelFacts('default', version)]) },
    { [`default@${version}`]: announcedManifest() },
  );
}

describe('the arguments', () => {
  const status = {
    ...{ channel: undefined, node: undefined, rows: 'problems' },
    ...{ json: false, watchSeconds: null },
  };
  it.each<[string, object | undefined]>([
    ['', status],
    ['--channel web --json', { ...status, channel: 'web', json: true }],
    ['--watch', { ...status, watchSeconds: 5 }],
    ['--watch 30', { ...status, watchSeconds: 30 }],
    ['--node n1 --all', { ...status, node: 'n1', rows: 'all' }],
    ['--failed', { ...status, rows: 'failed' }],
    ['-h --watch', undefined],
  ])('are parsed from %j', (text, options) => {
    expect(parseCommand(text.split(' ').filter((word) => word !== ''))).toEqual(options);
  });

  it.each([
    'web',
    '--watch 0',
    '--watch x',
    '--watch 1 2',
    '--channel ../x',
    '--no',
    '--log --channel web',
    '--all --failed',
  ])('are refused when they are %j', (text) => {
    expect(refusal(() => parseCommand(text.split(' '))).code).toBe('usage');
  });

  it.each(['--log web@7 --json', 'web@7 --log --json'])(
    'name the new command for the moved option of %j',
    (text) => {
      const { message, hint } = refusal(() => parseCommand(text.split(' ')));
      expect(message).toBe('--log is a command of its own now, log');
      expect(hint).toMatch(/ log web@7 --json$/);
    },
  );
});

describe('the report', () => {
  it('is the verdict and a line for each update where all is well', () => {
    expect(statusLines(soundReport(), wide)).toEqual([
      'fleet lab: converged: every node has what is meant for it',
      '1 of 1 nodes answer, software 1.0.0, newest announcement 50 s ago',
      '',
      `UPDATE              FILE     ${'CREATED'.padEnd(12)}  SIGNER    APPLIED`,
      `default@${version}  site.pp  ${localTime(version, at)}  18a45322  1/1`,
    ]);
  });

  it('has what is not right, the worst first, with its reason and the command that helps', () => {
    const poisoned = channelFacts('web', version, {
      ...{ state: 'POISONED', reason: 'failed resources: 1' },
      run: { exitCode: 4, changed: 0, failed: 1 },
    });
    const loads = channelFacts('web', version, {
      ...{ state: 'QUEUED', reason: 'in Transmission', run: null },
      download: { percent: 45, bytesPerSecond: 119_500 },
    });
    const report = madeReport({
      n1: nodeSummary([channelFacts('web', version)]),
      n2: nodeSummary([loads]),
      n3: nodeSummary([poisoned]),
      n4: undefined,
      n5: nodeSummary([poisoned]),
      n6: { ...nodeSummary([channelFacts('web', version)]), fault: 'disk full: 3 MiB left' },
    });
    const lines = statusLines(report, wide);
    expect(lines[0]).toBe(
      'fleet lab: failed: web on n3 and 1 more: POISONED: failed resources: 1 (exit 4, 0 changed, 1 failed)',
    );
    expect(lines[4]).toMatch(/^web@\d+ {2}\? +\? +\? +2\/5, 2 POISONED, 1 QUEUED$/);
    expect(lines.slice(6)).toEqual([
      'failed    web: POISONED: failed resources: 1 (exit 4, 0 changed, 1 failed)',
      `          on n3, n5: ${commandHint('retry', `web@${version}`)}`,
      'failed    disk full: 3 MiB left',
      `          on n6: ${commandHint('doctor')}`,
      'pending   down',
      `          on n4; if gone for good: ${commandHint('retire', 'n4')}`,
      'pending   web: QUEUED: 45 %, 120 kB/s',
      '          on n2',
    ]);
  });

  it('of 50 nodes and 10 channels fits a screen of 80 columns and 24 lines', () => {
    const lines = statusLines(madeLargeReport(), { ...wide, width: 80 });
    expect(lines).toHaveLength(24);
    expect(lines[0]).toMatch(/^fleet lab: failed: channel-3 on node-7 and 4 more: POISONED: /);
    for (let i = 0; i < 10; i += 1)
      expect(lines[4 + i]).toMatch(
        new RegExp(`^channel-${i}@\\d+ +acme-\\S+ +.{12} +18a45322 +\\d+/48`),
      );
    const problems = lines.slice(15).filter((line) => !line.startsWith(' '));
    expect(problems.map((line) => line.replace(/:.*/, ''))).toEqual([
      ...['failed    channel-3', 'pending   down', 'pending   channel-1', 'pending   channel-5'],
      expect.stringMatching(/^and 3 more /) as string,
    ]);
    // A command is never cut: it is to be pasted.
    const commands = / [^ ]*p2p-update[^ ]* .*$/;
    for (const line of lines) expect(line.replace(commands, '').length).toBeLessThanOrEqual(80);
    expect(lines.join('\n')).toContain(commandHint('retry', `channel-3@${at - 4997}`));
  });

  it.each([6, 10, 24, 50])(
    'keeps to a terminal of 80 columns and %d lines, the verdict on top',
    (height) => {
      for (const rows of ['problems', 'all', 'failed'] as const) {
        const lines = statusLines(madeLargeReport(), { ...wide, rows, width: 80, height });
        expect(lines.length).toBeLessThanOrEqual(height);
        expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80);
        expect(lines[0]).toMatch(/^fleet lab: failed: /);
      }
    },
  );

  it('of 10,000 members that do not answer has a few lines', () => {
    const names = Array.from({ length: 10_000 }, (_, i) => [`n${i + 1}`, undefined]);
    const report = madeReport(Object.fromEntries(names) as Record<string, undefined>);
    const lines = statusLines(report, { ...wide, width: 80 });
    expect(lines).toHaveLength(5);
    expect(lines[4]).toMatch(/^ +on n1.* and 99\d\d more; if gone for good: .+ retire n1$/);
  });

  it('has every node and channel with --all, the failed ones with --failed, and one node with --node', () => {
    const report = madeLargeReport();
    const table = (view: Partial<View>): string[] => {
      const lines = statusLines(report, { ...wide, ...view });
      return lines.slice(lines.findIndex((line) => line.startsWith('NODE')) + 1);
    };
    expect(table({ rows: 'all' })).toHaveLength(482);
    expect(table({ rows: 'failed' }).map((line) => line.split(/ +/)[0])).toEqual([
      ...['node-7', 'node-17', 'node-27', 'node-37', 'node-47'],
    ]);
    expect(table({ node: 'node-7' })).toHaveLength(10);
    expect(statusLines(report, { ...wide, node: 'node-8' })[0]).toBe(
      'node-8 of fleet lab: converged: every node has what is meant for it',
    );
    const [verdict, , , header] = statusLines(soundReport(), { ...wide, rows: 'failed' });
    expect([verdict, header]).toEqual([
      expect.stringMatching(/^fleet lab: converged: /),
      undefined,
    ]);
  });

  it('tells of a scheduled update until when it waits, and that is no failure', () => {
    const waits = channelFacts('web', version, {
      state: 'COMPLETE',
      reason: 'downloaded',
      run: null,
    });
    const notBefore = at + 3600;
    const announced = announcedManifest({ notBefore });
    const report = madeReport({ n1: nodeSummary([waits]) }, { [`web@${version}`]: announced });
    expect(verdictStatuses[report.verdict]).toBe(0);
    const lines = statusLines(report, wide);
    const until = `WAITING until ${localTime(notBefore, at)}`;
    expect(lines[0]).toBe(`fleet lab: scheduled: web on n1: ${until}`);
    expect(lines.slice(4)).toEqual([
      expect.stringMatching(/0\/1, 1 WAITING$/),
      ...['', `scheduled web: ${until}`, '          on n1'],
    ]);
    expect(JSON.parse(statusJson(report, wide))).toMatchObject({
      verdict: 'scheduled',
      exitStatus: 0,
      nodes: [
        { channels: [{ state: 'WAITING', until: new Date(notBefore * 1000).toISOString() }] },
      ],
    });
  });

  it('tells of a withdrawal what runs on the nodes', () => {
    const of = (name: string, reason: string): [string, NodeSummary] => {
      const current = { state: 'WITHDRAWN' as const, reason, run: null };
      return [
        name,
        nodeSummary([{ ...channelFacts('web', version, current), isWithdrawal: true }]),
      ];
    };
    const nodes = Object.fromEntries([of('n1', 'runs 7'), of('n2', 'runs 9, applied before')]);
    const announced = announcedManifest({ kind: 'withdraw' });
    const lines = statusLines(madeReport(nodes, { [`web@${version}`]: announced }), wide);
    expect(lines[0]).toMatch(/^fleet lab: converged: /);
    expect(lines.slice(4)).toEqual([
      expect.stringMatching(/^web@\d+ {2}\(withdrawn\) .* 2\/2$/),
      ...['', 'withdrawn web: runs 7', '          on n1'],
      ...['withdrawn web: runs 9, applied before', '          on n2'],
    ]);
  });

  it('tells of an update whose signer is trusted no more how it is signed again', () => {
    const current = {
      state: 'WITHDRAWN' as const,
      reason: 'signer x is not a release key',
      run: null,
    };
    const nodes = { n1: nodeSummary([channelFacts('web', version, current)]) };
    const report = madeReport(nodes, {
      [`web@${version}`]: announcedManifest({ isRevoked: true }),
    });
    expect(statusLines(report, wide).slice(6)).toEqual([
      'failed    web: the fleet trusts its signer no more: it has to be signed again',
      `          on n1; here: ${commandHint('submit', '--renew', '--all')}`,
    ]);
    const applied = { n1: nodeSummary([channelFacts('web', version)]) };
    const later = madeReport(applied, {
      [`web@${version}`]: announcedManifest({ isRevoked: true }),
    });
    expect(later.verdict).toBe('converged');
    expect(statusLines(later, wide).slice(6)).toEqual([
      'revoked   web: the fleet trusts its signer no more: a new node cannot get it',
      `          ${commandHint('submit', '--renew', '--all')}`,
    ]);
  });

  it('has a line for each update that is in effect, as of a canary and of the other nodes', () => {
    const nodes = {
      n1: nodeSummary([channelFacts('web', 9)]),
      n2: nodeSummary([{ ...channelFacts('web', 7), newest: 9 }]),
      n3: nodeSummary([{ ...channelFacts('web', 7), newest: 9 }]),
    };
    const update = (name: string, target: string) => announcedManifest({ name, target });
    const known = { 'web@9': update('new.pp', 'node=n1'), 'web@7': update('old.pp', '') };
    const lines = statusLines(madeReport(nodes, known), wide).slice(4);
    expect(lines).toEqual([
      expect.stringMatching(/^web@9 +new\.pp .* 1\/1$/),
      expect.stringMatching(/^web@7 +old\.pp .* 2\/2$/),
    ]);
  });

  it('counts the software versions, and stays ASCII with any member name and reason', () => {
    const other = { ...nodeSummary([channelFacts('default', version)]), software: '2.0.0' };
    const bad = channelFacts('default', version, {
      state: 'POISONED',
      reason: '\u001b[2Jé',
      run: null,
    });
    const nodes = { n1: nodeSummary([bad]), '\u009b2Jn\u00e9': other };
    const text = statusLines(madeReport(nodes), { ...wide, rows: 'all' }).join('\n');
    expect(text).toContain('software 2.0.0 on 1 and 1.0.0 on 1');
    expect(text).toMatch(/^[\x20-\x7e\n]+$/);
  });
});

describe('the JSON', () => {
  it('has the documented shape, in ASCII', () => {
    const report = soundReport();
    report.nodes.forEach((node) => (node.name = 'n\u009b'));
    const text = statusJson(report, wide);
    expect(text).toMatch(/^[\x20-\x7e]+$/);
    const time = (seconds: number): string => new Date(seconds * 1000).toISOString();
    expect(JSON.parse(text)).toEqual({
      fleet: 'lab',
      at: time(at),
      verdict: 'converged',
      why: '',
      exitStatus: 0,
      newestAnnouncement: time(version),
      isStale: false,
      staleAfterSeconds: 2_592_000,
      updates: [
        {
          channel: 'default',
          version,
          name: 'site.pp',
          kind: 'manifest',
          created: time(version),
          notBefore: null,
          target: '',
          signers: ['18a45322996cf13f'],
          isRevoked: false,
          targets: 1,
          done: 1,
          others: {},
        },
      ],
      nodes: [
        {
          name: 'n\u009b',
          member: 'alive',
          answered: true,
          verdict: 'converged',
          why: '',
          software: '1.0.0',
          keySetEpoch: 1,
          newestAnnouncement: time(version),
          channels: [
            {
              channel: 'default',
              verdict: 'converged',
              why: '',
              newest: version,
              version,
              state: 'APPLIED',
              since: time(at - 30),
              until: null,
              reason: '',
              download: null,
              run: { exitCode: 2, changed: 1, failed: 0 },
              lastApplied: version,
              equivocation: 'none',
            },
          ],
        },
      ],
    });
  });

  it('takes times that no Date can hold', () => {
    const facts = { ...nodeSummary([]), newestCreated: 2 ** 53 - 1 };
    expect(() => statusJson(madeReport({ n1: facts }), wide)).not.toThrow();
    expect(() => statusLines(madeReport({ n1: facts }), wide)).not.toThrow();
  });
});

describe('an age', () => {
  it.each([
    [-5, '0 s'],
    [119, '119 s'],
    [120, '2 min'],
    [7199, '119 min'],
    [7200, '2 h'],
    [172_800, '2 d'],
  ])('of %d seconds is shown as %s', (seconds, text) => {
    expect(age(seconds)).toBe(text);
  });
});

describe('a signal that ends the serf command too', () => {
  // That of the command is first, as it is for one Ctrl-C in some thousand.
  const script = '#!/bin/sh\n(sleep 0.1; kill -INT "$PPID") > /dev/null 2>&1 &\nkill -INT $$\n';

  it.each([
    ['status --watch', { status: 130, signal: null }],
    ['status', { status: null, signal: 'SIGINT' }],
  ])('ends %s with nothing printed, and with a status that says so', (words, end) => {
    const operator = makeOperator();
    chmodSync(operator.file('serf', script), 0o755);
    const [node = '', ...argv] = programArgv(`p2p-update.cjs ${words}`);
    const result = spawnSync(node, argv, { env: operator.env, encoding: 'utf8' });
    expect(result).toMatchObject({ ...end, stdout: '', stderr: '' });
  });
});
