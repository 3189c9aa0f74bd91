import { spawn, spawnSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { prepareStateDir, updatesDir } from '../../lib/state/layout.ts';
import { newProgress, writeProgress } from '../../lib/state/progress.ts';
import { logEvent } from '../../lib/system/event-log.ts';
import { parseCommand } from '../../scripts/log/arguments.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { programArgv } from '../support/run/program.ts';
import { refusal } from '../support/run/refusal.ts';
import { waitFor } from '../support/run/wait-for.ts';

const [command = '', ...argv] = programArgv('p2p-update.cjs log');
const id = { channel: 'default', version: 5 };
const infoHash = 'ab'.repeat(20);

/** A node with the log lines of one update, and a part of those of another. */
function makeNode(): LoneNode {
  const node = makeLoneNode();
  const { stateDir, applyDir } = node.config;
  prepareStateDir(stateDir);
  const progress = newProgress({ infoHash, sha256: null, noop: false });
  writeProgress(updatesDir(stateDir), id, progress, { state: 'ACCEPTED', reason: '' }, 1);
  const log = (directory: string, handler: string, decision: string, more: object = {}): void => {
    logEvent(directory, { handler, decision, reason: decision, ...more });
  };
  log(stateDir, 'update', 'accept', id);
  log(stateDir, 'update', 'accept', { ...id, version: 6 });
  log(stateDir, 'advance', 'queued', id);
  log(stateDir, 'transmission-done', 'complete', { reason: infoHash });
  log(applyDir, 'apply', 'applied', { ...id, reason: 'a\u001b[2Jb' });
  log(stateDir, 'advance', 'idle');
  return node;
}

function show(node: LoneNode, ...args: string[]) {
  const env = { ...process.env, P2P_UPDATE_CONFIG: node.configFile };
  return spawnSync(command, [...argv, ...args], { env, encoding: 'utf8' });
}

const decisionsOf = (text: string): string[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { decision: string }).decision);

describe('log', () => {
  it('shows the lines of one update from both sides and from the hook', () => {
    const { status, stdout } = show(makeNode(), 'default@5', '--json');
    expect(decisionsOf(stdout)).toEqual(['accept', 'queued', 'complete', 'applied']);
    expect(status).toBe(0);
  });

  it('shows the lines of a channel, or all of them', () => {
    const node = makeNode();
    expect(decisionsOf(show(node, 'default', '--json').stdout)).toHaveLength(4);
    expect(decisionsOf(show(node, '--json').stdout)).toHaveLength(6);
  });

  it('leaves out the answers to queries of other nodes, unless they are asked for', () => {
    const node = makeNode();
    for (const handler of ['status', 'latest']) {
      const event = { ...id, handler, reason: 'APPLIED' };
      logEvent(node.config.stateDir, { ...event, decision: 'answer' });
      logEvent(node.config.stateDir, { ...event, decision: 'refuse' });
    }
    const shown = (...args: string[]): string[] =>
      decisionsOf(show(node, 'default@5', '--json', ...args).stdout).sort();
    const lines = ['accept', 'applied', 'complete', 'queued', 'refuse', 'refuse'];
    expect(shown()).toEqual(lines);
    expect(shown('--queries')).toEqual(['answer', 'answer', ...lines].sort());
  });

  it('replaces control characters, which could steer a terminal', () => {
    const { stdout } = show(makeNode(), 'default@5');
    expect(stdout).toMatch(/apply +default@5 +applied +a\?\[2Jb \(\d+ ms\)\n$/);
  });

  const log = { key: undefined, json: false, queries: false, follow: false };
  it.each<[string, object]>([
    ['', { ...log }],
    ['web', { ...log, key: 'web' }],
    ['web@7 --json', { ...log, key: 'web@7', json: true }],
    ['--queries', { ...log, queries: true }],
    ['7 --watch', { ...log, key: '7', follow: true }],
  ])('parses the arguments %j', (text, options) => {
    expect(parseCommand(text.split(' ').filter((word) => word !== ''))).toEqual(options);
  });

  it.each(['a b', '--channel web', '--no'])('refuses the arguments %j', (text) => {
    expect(refusal(() => parseCommand(text.split(' '))).code).toBe('usage');
  });

  it('refuses a key that is neither a channel nor an update', () => {
    const { status, stderr } = show(makeNode(), 'a b');
    expect(status).toBe(64);
    expect(stderr).toMatch(/^log: error: .+\nlog: hint: .+\n$/);
  });

  it('shows each new line once with --watch', async () => {
    const node = makeNode();
    const env = { ...process.env, P2P_UPDATE_CONFIG: node.configFile };
    const child = spawn(command, [...argv, 'default@5', '--watch', '--json'], { env });
    onTestFinished(() => void child.kill());
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await waitFor('the lines so far', () => text.split('\n').length === 5);
    const event = { ...id, handler: 'apply', decision: 'late', reason: 'late' };
    logEvent(node.config.applyDir, event);
    await waitFor('the new line', () => text.includes('"late"'));
    expect(decisionsOf(text)).toEqual(['accept', 'queued', 'complete', 'applied', 'late']);
  });
});
