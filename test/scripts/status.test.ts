import { spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { commandHint } from '../../lib/command-hint.ts';
import type { ChannelRow, NodeRow } from '../../lib/query/judge-fleet.ts';
import { parseCommand } from '../../scripts/status/arguments.ts';
import { age, statusJson, statusLines, type Report } from '../../scripts/status/report.ts';
import { makeOperator } from '../support/fleet/operator.ts';
import { programArgv } from '../support/run/program.ts';
import { refusal } from '../support/run/refusal.ts';

// Tests that need a fleet are in test/integration/fleet-status.test.ts and test/attacks/freeze.test.ts.

const at = 1_900_000_000;

const row: ChannelRow = {
  channel: 'default',
  newest: at - 50,
  isNewestExpired: false,
  equivocation: 'none',
  lastApplied: at - 50,
  current: {
    version: at - 50,
    state: 'APPLIED',
    since: at - 30,
    reason: '',
    run: { exitCode: 2, changed: 1, failed: 0 },
  },
  verdict: 'converged',
  why: '',
};
const node: NodeRow = {
  name: 'n1',
  member: 'alive',
  verdict: 'converged',
  why: '',
  facts: { software: '1.0.0', epoch: 1, newestCreated: at - 50, isLimited: false, fault: '' },
  channels: [row],
};
const report: Report = {
  fleet: 'lab',
  at,
  verdict: 'converged',
  newestCreated: at - 50,
  isStale: false,
  staleAfterSeconds: 1000,
  nodes: [node],
};

describe('the arguments', () => {
  const status = { channel: undefined, json: false, watchSeconds: null };
  it.each<[string, object | undefined]>([
    ['', status],
    ['--channel web --json', { ...status, channel: 'web', json: true }],
    ['--watch', { ...status, watchSeconds: 5 }],
    ['--watch 30', { ...status, watchSeconds: 30 }],
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

describe('the table', () => {
  it('has a header and a line for each node and channel', () => {
    expect(statusLines(report)).toEqual([
      'fleet lab: converged',
      '  answers              1 of 1 nodes',
      '  software             1.0.0',
      '  newest announcement  50 s ago',
      '',
      'NODE  CHANNEL  VERSION     STATE    AGE   LAST RESULT',
      'n1    default  1899999950  APPLIED  30 s  exit 2, 1 changed, 0 failed',
    ]);
  });

  it('names the problems and their nodes first', () => {
    const failed: ChannelRow = {
      ...row,
      channel: 'web',
      equivocation: 'seen',
      lastApplied: 5,
      current: {
        version: 6,
        state: 'FAILED',
        since: at - 7300,
        reason: 'failed resources: 1',
        run: { exitCode: 4, changed: 0, failed: 1 },
      },
      verdict: 'failed',
      why: 'equivocation: one version was signed twice',
    };
    const silent: NodeRow = { ...node, name: 'n2', facts: null, why: 'down', channels: [] };
    const nodes: NodeRow[] = [
      { ...node, verdict: 'failed', why: failed.why, channels: [row, failed] },
      { ...silent, member: 'down', verdict: 'pending' },
    ];
    expect(statusLines({ ...report, verdict: 'failed', nodes })).toEqual([
      'fleet lab: failed',
      '  answers              1 of 2 nodes',
      '  software             1.0.0',
      '  newest announcement  50 s ago',
      '  EQUIVOCATION         web on n1',
      '  failed               n1 web: equivocation: one version was signed twice',
      '  pending              n2: down',
      `  gone for good?       ${commandHint('retire', 'NODE')}`,
      '',
      'NODE  CHANNEL  VERSION     STATE    AGE   LAST RESULT',
      'n1    default  1899999950  APPLIED  30 s  exit 2, 1 changed, 0 failed',
      'n1    web      6           FAILED   2 h   failed resources: 1 (exit 4, 0 changed, 1 failed); equivocation: one version was signed twice; before: 5',
      'n2    -        -           -        -     down',
    ]);
  });

  it('counts the software versions, and stays ASCII with any member name', () => {
    const facts = { ...node.facts, software: '2.0.0' } as NodeRow['facts'];
    const nodes = [node, { ...node, name: '\u009b2Jn\u00e9', facts }];
    const lines = statusLines({ ...report, nodes });
    expect(lines).toContain('  software             1.0.0 on 1, 2.0.0 on 1');
    expect(lines.join('\n')).toMatch(/^\?2Jn\? /m);
  });

  it('shows ten problems, and counts the others', () => {
    const bad: NodeRow = {
      ...node,
      verdict: 'pending',
      why: 'no answer',
      facts: null,
      channels: [],
    };
    const nodes = Array.from({ length: 14 }, (_, i) => ({ ...bad, name: `n${i + 1}` }));
    const lines = statusLines({ ...report, verdict: 'pending', nodes });
    expect(lines.filter((line) => line.startsWith('  pending'))).toHaveLength(10);
    expect(lines).toContain('  and 4 more');
  });
});

describe('the JSON', () => {
  it('has the documented shape, in ASCII', () => {
    const text = statusJson({ ...report, nodes: [{ ...node, name: 'n\u009b' }] });
    expect(text).toMatch(/^[\x20-\x7e]+$/);
    const time = (seconds: number): string => new Date(seconds * 1000).toISOString();
    expect(JSON.parse(text)).toEqual({
      fleet: 'lab',
      at: time(at),
      verdict: 'converged',
      exitStatus: 0,
      newestAnnouncement: time(at - 50),
      isStale: false,
      staleAfterSeconds: 1000,
      nodes: [
        {
          name: 'n\u009b',
          member: 'alive',
          answered: true,
          verdict: 'converged',
          why: '',
          software: '1.0.0',
          keySetEpoch: 1,
          newestAnnouncement: time(at - 50),
          channels: [
            {
              channel: 'default',
              verdict: 'converged',
              why: '',
              newest: at - 50,
              version: at - 50,
              state: 'APPLIED',
              since: time(at - 30),
              reason: '',
              run: { exitCode: 2, changed: 1, failed: 0 },
              lastApplied: at - 50,
              equivocation: 'none',
            },
          ],
        },
      ],
    });
  });

  it('takes times that no Date can hold', () => {
    const facts = { ...node.facts, newestCreated: 2 ** 53 - 1 } as NodeRow['facts'];
    expect(() => statusJson({ ...report, nodes: [{ ...node, facts }] })).not.toThrow();
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
