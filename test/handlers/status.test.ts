import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { updateKey } from '../../lib/announcement/update.ts';
import { parsePage } from '../../lib/query/summary-page.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { eventLogFile } from '../../lib/system/event-log.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { repository } from '../support/run/repository.ts';
import { readState } from '../support/run/state.ts';
import { runSync } from '../support/run/command.ts';

const handler = join(repository, 'dist/handlers/status.cjs');
const now = Math.floor(Date.now() / 1000);

/** Runs the built handler with a query, as Serf does. */
function ask(node: LoneNode, request: string, env: Record<string, string> = {}) {
  const before = readState(node.config.stateDir);
  const result = runSync([handler], {
    env: {
      ...serfEnvironment(node.configFile),
      ...{ SERF_EVENT: 'query', SERF_QUERY_NAME: 'update-status', SERF_QUERY_LTIME: '3' },
      ...env,
    },
    input: request === '' ? '' : `${request}\n`,
  });
  // A query changes no state.
  expect(readState(node.config.stateDir)).toEqual(before);
  const { status, stdout, stderr } = result;
  return { status, stdout, stderr };
}

function makeNode(): { node: LoneNode; events: () => Record<string, unknown>[] } {
  const node = makeLoneNode();
  node.plant(signAnnouncement(makeAnnouncement({ version: now }), node.keys));
  const events = (): Record<string, unknown>[] =>
    readFileSync(eventLogFile(node.config.stateDir), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { node, events };
}

describe('the status handler', () => {
  it('answers for one update, and writes one line to events.log', () => {
    const { node, events } = makeNode();
    const { status, stdout, stderr } = ask(node, `default@${now}`);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({ state: 'ACCEPTED', reason: 'accepted' });
    expect(events()).toMatchObject([
      { handler: 'status', decision: 'answer', channel: 'default', version: now },
    ]);
  });

  it('answers for all channels, page by page', () => {
    const { node, events } = makeNode();
    const first = ask(node, 'summary');
    expect(first).toMatchObject({ status: 0, stderr: '' });
    const page = parsePage(first.stdout);
    expect(page).toMatchObject({ epoch: 1, channels: [{ channel: 'default', newest: now }] });
    expect(page?.software).toMatch(/^\d+\.\d+\.\d+/);
    expect(parsePage(ask(node, 'summary default').stdout)?.channels).toEqual([]);
    expect(events().map(({ reason }) => reason)).toEqual(['summary', 'summary default']);
  });

  it('answers whether it is a target, by its own name, tags and channels', () => {
    const node = makeLoneNode({ tags: { role: 'web' }, channels: ['default'] });
    const answer = (request: string): unknown => JSON.parse(ask(node, request).stdout);
    expect(answer('target default role=web|db')).toEqual({ matches: true });
    expect(answer('target default role=db')).toEqual({ matches: false });
    expect(answer('target default node=n1,role=web')).toEqual({ matches: true });
    // It does not follow the channel.
    expect(answer('target web role=web')).toEqual({ matches: false });
    expect(ask(node, 'target default role=')).toMatchObject({ status: 65, stdout: '' });
  });

  it('answers although a record is damaged', () => {
    const { node } = makeNode();
    const id = { channel: 'default', version: now };
    const { applyDir } = node.config;
    mkdirSync(outcomesDir(applyDir));
    const file = join(outcomesDir(applyDir), updateKey(id));
    writeFileSync(file, 'rubbish');
    const { status, stdout } = ask(node, `default@${now}`);
    expect({ status, answer: JSON.parse(stdout) as unknown }).toMatchObject({
      status: 0,
      answer: { state: 'DAMAGED' },
    });
  });

  it.each<[string, (node: LoneNode) => void, RegExp]>([
    [
      'a directory that every user can write to',
      ({ config }) => {
        chmodSync(config.stateDir, 0o777);
      },
      /state can be written by every user$/,
    ],
    [
      'a missing key set',
      ({ config }) => {
        rmSync(config.keySetFile);
      },
      // Cut to fit: the path is a long one.
      /^the key set /,
    ],
    [
      'a configuration that cannot be used',
      ({ configFile }) => {
        writeFileSync(configFile, '{"strange":1}');
      },
      /^the configuration /,
    ],
  ])('answers with its fault: %s', (_, spoil, fault) => {
    const { node } = makeNode();
    spoil(node);
    expect(parsePage(ask(node, 'summary').stdout)?.fault).toMatch(fault);
  });

  it.each([
    '',
    'target',
    'target ../x a=b',
    'target default',
    'summary ../x',
    'summary a b',
    'summary  ',
    'default',
    'default@0',
    '\u001b[2J',
  ])('refuses the request %j', (request) => {
    const { node, events } = makeNode();
    const { status, stdout, stderr } = ask(node, request);
    expect({ status, stdout }).toEqual({ status: 65, stdout: '' });
    expect(stderr).toMatch(/^status: error: .+\nstatus: hint: ask for .+\n$/);
    expect(events()).toMatchObject([{ handler: 'status', decision: 'refuse' }]);
  });

  it('refuses any other query than update-status', () => {
    const { node } = makeNode();
    expect(ask(node, 'summary', { SERF_QUERY_NAME: 'other' })).toMatchObject({ status: 64 });
  });
});
