import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { computeInfoHash, contentFileName } from '../../lib/announcement/metainfo.ts';
import { updateKey } from '../../lib/announcement/update.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { hasEvent, outcomeOf, submit, type Submitted } from '../support/fleet/submit.ts';
import { repository } from '../support/run/repository.ts';

let fleet: Fleet;
let operator: FleetNode;
let other: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [operator, other] = fleet.nodes as [FleetNode, FleetNode];
});

afterAll(() => {
  fleet.stop();
});

const program = join(repository, 'dist/p2p-update.cjs');
const reconciler = [program, 'reconcile', '--no-wait'];
/** Its second half alone, where the test is about that: the first one stays with its torrents for 15 s. */
const apply = [program, 'apply', '--no-wait'];

/** As in a unit of systemd, whose journal has a line for each thing done. */
const journal = { JOURNAL_STREAM: '8:1' };

/** Runs a command on n2 whose clock is put forward, which saves the wait. */
function ahead(seconds: number, argv: readonly string[], env: Record<string, string> = {}) {
  const text = 'const now = Date.now; Date.now = () => now() + +process.env.LEAD_MS;';
  const clock = file('clock.cjs', text);
  return other.run(['node', '--require', clock, ...argv], {
    env: { ...env, LEAD_MS: String(seconds * 1000) },
  });
}

function file(name: string, content: string): string {
  const path = join(fleet.directory, name);
  writeFileSync(path, content);
  return path;
}

const everywhere = (update: Submitted, decision: string): Promise<boolean> =>
  fleet.waitFor(`every node: ${decision} ${update.channel}@${update.version}`, () =>
    fleet.nodes.every((node) => hasEvent(node, update, decision)),
  );

// A test that fails half-way leaves no daemon down for the others.
afterEach(async () => {
  for (const { serf, transmission } of fleet.nodes)
    for (const daemon of [serf, transmission]) if (!daemon.isRunning) await daemon.start();
});

describe('when a daemon is down', () => {
  it.each([
    ['Serf', () => operator.serf],
    ['Transmission', () => operator.transmission],
  ])(
    'submit keeps the announcement, and --resend sends the very bytes (%s)',
    async (name, daemon) => {
      await daemon().end('SIGTERM');
      const path = file('kept.bin', `kept without ${name}`);
      const failed = await operator.script('submit', [path, '--channel', 'kept']);
      expect(failed.status).toBe(69);
      expect(failed.stderr).toMatch(/is signed and kept/);
      const key = /submit --resend (kept@\d+)/.exec(failed.stderr)?.[1] ?? '';
      expect(key).toMatch(/^kept@/);
      const kept = join(operator.config.publishDir, 'announcements');
      const names = readdirSync(kept).filter((each) => each.startsWith('kept@'));
      const record = readFileSync(join(kept, names.sort().at(-1) ?? ''), 'utf8');
      await daemon().start();
      await fleet.waitFor('the fleet is whole', async () => {
        const alive = await other.aliveMembers();
        return alive.length === 2;
      });
      const again = await operator.script('submit', ['--resend', key, '--json']);
      expect(again).toMatchObject({ status: 0, stderr: '' });
      const sent = JSON.parse(again.stdout) as Submitted;
      expect(record).toContain(JSON.stringify(sent.payload));
      await everywhere(sent, 'applied');
    },
  );

  it('a node keeps an announcement without Transmission, and the next wake-up finishes it', async () => {
    await other.transmission.end('SIGTERM');
    const update = await submit(operator, file('later.bin', 'later'), '--channel', 'later');
    await fleet.waitFor('it is accepted', () => hasEvent(other, update, 'accept'));
    await fleet.waitFor('the reconciler has seen that Transmission is down', () =>
      other
        .events()
        .some(({ handler, decision, reason }) =>
          handler === 'advance' && decision === 'wait' ? /Transmission/.test(reason) : false,
        ),
    );
    expect(outcomeOf(other, update)).toBeUndefined();
    await other.transmission.start();
    const { status, stderr } = await other.run(reconciler);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    await everywhere(update, 'applied');
  });

  it('reconcile reports it, once a catch-up is due, when it is run without Serf', async () => {
    await other.serf.end('SIGTERM');
    // One that is at work already would take over this one's turn.
    const failed = await fleet.waitFor('it fails', async () => {
      const result = await ahead(3600, reconciler);
      return result.status !== 0 && result;
    });
    expect(failed.status).toBe(69);
    expect(failed.stderr).toMatch(/^reconcile: error: the Serf agent .+\nreconcile: hint: .+\n$/);
    await other.serf.start();
  });

  it('reconcile reports it when it is run by hand without Transmission', async () => {
    await other.transmission.end('SIGTERM');
    // The agent that has started again has woken one, which may be at work.
    const failed = await fleet.waitFor('it fails', async () => {
      const result = await other.run(reconciler);
      return result.status !== 0 && result;
    });
    expect(failed.status).toBe(69);
    expect(failed.stderr).toMatch(/^reconcile: error: .+\nreconcile: hint: .+\n$/s);
    await other.transmission.start();
  });
});

describe('a failing manifest', () => {
  it('is tried three times, then given up with its reason', async () => {
    const path = file('fail.pp', 'fail("on purpose")\n');
    const update = await submit(operator, path, '--channel', 'f', '--target', 'node=n2');
    await fleet.waitFor('it has failed', () => hasEvent(other, update, 'failed'));
    const outcome = outcomeOf(other, update);
    expect(outcome).toMatchObject({ state: 'FAILED', tries: 1 });
    expect(outcome?.reason).toMatch(/on purpose/);
    expect(readFileSync(outcome?.run?.log ?? '', 'utf8')).toMatch(/on purpose/);
    // Before its time it is left alone.
    await other.run(apply);
    expect(outcomeOf(other, update)).toMatchObject({ state: 'FAILED', tries: 1 });

    // The pauses are 1 and 10 minutes.
    const until = (tries: number, seconds: number) =>
      fleet.waitFor(`try ${tries}`, async () => {
        await ahead(seconds, apply);
        return outcomeOf(other, update)?.tries === tries;
      });
    await until(2, 90);
    await ahead(120, apply);
    expect(outcomeOf(other, update)).toMatchObject({ state: 'FAILED', tries: 2 });
    await until(3, 900);
    await ahead(9000, apply);
    expect(outcomeOf(other, update)).toMatchObject({ state: 'POISONED', tries: 3 });
  });

  it('waits for its time when it is not to be applied before, and the journal then has a line for it', async () => {
    const manifest = file('later.pp', 'notice("at last")\n');
    const update = await submit(
      operator,
      manifest,
      '--channel',
      'not-before',
      '--not-before',
      '+1h',
    );
    await everywhere(update, 'complete');
    await other.run(apply);
    expect(outcomeOf(other, update)).toBeUndefined();
    const line = new RegExp(`^applied not-before@${update.version} in \\d+ s$`, 'm');
    await fleet.waitFor('its time has come', async () => {
      const { stdout } = await ahead(3700, apply, journal);
      return line.test(stdout);
    });
    expect(outcomeOf(other, update)).toMatchObject({ state: 'APPLIED' });
    expect((await ahead(3700, apply, journal)).stdout).not.toMatch(line);
  });
});

describe('content that differs from the signed content', () => {
  it('is checked again twice, then rejected and removed, and never applied', async () => {
    const bytes = Buffer.from('not what the announcement says');
    const content = {
      name: 'wrong.bin',
      sha256: 'ab'.repeat(32),
      length: bytes.length,
      pieceLength: 16_384,
      pieces: createHash('sha1').update(bytes).digest(),
    };
    const downloaded = contentFileName(content);
    const announcement = makeAnnouncement({
      kind: 'file',
      channel: 'wrong',
      infoHash: computeInfoHash(content),
      ...content,
    });
    // Both daemons find the content in place: the node that rejects it first stops seeding it.
    for (const node of fleet.nodes) writeFileSync(join(node.config.downloadDir, downloaded), bytes);
    const payload = signAnnouncement(announcement, fleet.keys);
    await operator.serfCommand(['event', '-coalesce=false', 'update', payload]);
    await fleet.waitFor('both nodes have rejected it', () =>
      fleet.nodes.every((node) => hasEvent(node, announcement, 'rejected')),
    );
    for (const node of fleet.nodes) {
      expect(outcomeOf(node, announcement)).toMatchObject({ state: 'REJECTED', badContent: 3 });
      expect(hasEvent(node, announcement, 'staged')).toBe(false);
      expect(existsSync(join(node.config.deliveryDir, content.name))).toBe(false);
      await fleet.waitFor('the content is gone', () => {
        return !existsSync(join(node.config.downloadDir, downloaded));
      });
    }
  });
});

describe('an apply that was killed', () => {
  it('is taken up again once its Puppet is ended, and does not count as a failed try', async () => {
    const runs = join(fleet.directory, 'runs-of-killed');
    // The first run is in the middle of it for as long as this takes.
    const again = join(fleet.directory, 'again');
    const body = `echo run >> "${runs}"; [ -e "${again}" ] || sleep 280; echo end >> "${runs}"\n`;
    const script = file('slow.sh', body);
    const manifest = `exec { 'slow': command => ['/bin/sh', '${script}'] }\n`;
    const update = await submit(operator, file('slow.pp', manifest), '--channel', 'slow');
    const killAll = 'kill -9 $(pgrep -f "p2p-update[.]cjs reconcile")';
    await fleet.waitFor('Puppet is at it', () => existsSync(runs));
    const { status } = await other.run(['sh', '-c', killAll]);
    expect(status).toBe(0);
    const states = fleet.nodes.map((node) => outcomeOf(node, update)?.state);
    expect(states).toContain('APPLYING');
    writeFileSync(again, '');
    for (const result of await Promise.all(fleet.nodes.map((node) => node.run(reconciler))))
      expect(result).toMatchObject({ status: 0, stderr: '' });
    await everywhere(update, 'applied');
    for (const node of fleet.nodes)
      expect(outcomeOf(node, update)).toMatchObject({ state: 'APPLIED', tries: 0 });
    // The killed run did not get to its end.
    const lines = readFileSync(runs, 'utf8').trimEnd().split('\n');
    expect(lines.filter((line) => line === 'end')).toHaveLength(2);
  });
});

describe('the trigger spool', () => {
  it('starts no process: the fact waits for the next run of the reconciler', async () => {
    const configFile = join(other.directory, 'spool.json');
    const stateDir = join(other.directory, 'spool-state');
    mkdirSync(stateDir);
    const config = { ...other.config, stateDir, trigger: 'spool' };
    writeFileSync(configFile, JSON.stringify(config));
    const env = { P2P_UPDATE_CONFIG: configFile };
    const update = await submit(operator, file('spool.bin', 'spooled'), '--channel', 'spool');
    await everywhere(update, 'applied');
    const serfEnv = {
      ...env,
      SERF_EVENT: 'user',
      SERF_USER_EVENT: 'update',
      SERF_USER_LTIME: '1',
      SERF_SELF_NAME: other.name,
    };
    const handler = join(repository, 'dist/handlers/update.cjs');
    const woken = await other.run([handler], { env: serfEnv, input: update.payload });
    expect(woken).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(join(stateDir, 'announcements'))).toHaveLength(1);
    const progress = join(stateDir, 'updates', updateKey(update));
    expect(existsSync(progress)).toBe(false);
    const inUnit = { env: { ...env, ...journal } };
    const line = `accepted ${update.channel}@${update.version}\n`;
    const first = await other.run(reconciler, inUnit);
    expect(first.status).toBe(0);
    expect(first.stdout).toContain(line);
    expect(existsSync(progress)).toBe(true);
    expect((await other.run(reconciler, inUnit)).stdout).not.toContain(line);
  });
});
