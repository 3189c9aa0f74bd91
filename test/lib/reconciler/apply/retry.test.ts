import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  contentLocation,
  nameOf,
  type Update,
  type UpdateRef,
} from '../../../../lib/announcement/update.ts';
import { retryFailed } from '../../../../lib/reconciler/apply/retry.ts';
import { type ApplySide, makeApplySide, stagedIn } from '../../../support/fleet/apply-side.ts';
import { mustRun, runSync } from '../../../support/run/command.ts';
import { distForOthers, programArgv } from '../../../support/run/program.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';
import { waitFor } from '../../../support/run/wait-for.ts';

const now = Math.floor(Date.now() / 1000);
const content = Buffer.from('notice("x")\n');

function setPuppet({ config }: ApplySide, script: string): void {
  writeFileSync(config.puppet.command, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** Makes a node on which a manifest has failed three times. */
async function makePoisoned(expires = now + 100_000): Promise<{ node: ApplySide; update: Update }> {
  const node = makeApplySide(temporaryDirectory());
  setPuppet(node, 'exit 4');
  const update = node.receive({ kind: 'manifest', name: 'a.pp', version: now, expires }, content);
  for (const at of [now, now + 60, now + 700]) await node.apply(at);
  expect(node.outcomeOf(update)).toMatchObject({ state: 'POISONED', tries: 3 });
  expect(stagedIn(node)).toEqual([]);
  return { node, update };
}

const retry = ({ config }: ApplySide, wanted?: UpdateRef, at = now + 800) =>
  retryFailed(config, wanted, { nowSeconds: () => at, log: () => undefined });

describe('an update that was given up', () => {
  it('is tried again with all its tries, from content that is copied and verified again', async () => {
    const { node, update } = await makePoisoned();
    expect(await retry(node)).toMatchObject([{ id: { version: now }, isRetried: true }]);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'STAGED', tries: 0 });
    await node.apply(now + 800);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'FAILED', tries: 1 });
    setPuppet(node, 'exit 2');
    await node.apply(now + 900);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
    expect(await retry(node)).toEqual([]);
  });

  it('waits for lost content, and is not given up for it', async () => {
    const { node, update } = await makePoisoned();
    const { file } = contentLocation(update, node.config.downloadDir);
    rmSync(file);
    await retry(node, update);
    expect(await node.apply(now + 800)).toMatchObject([{ decision: 'wait' }]);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'STAGED' });
    setPuppet(node, 'exit 0');
    writeFileSync(file, content);
    await node.apply(now + 900);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
  });

  it('is not run from wrong content, which advance has checked', async () => {
    const { node, update } = await makePoisoned();
    const { file } = contentLocation(update, node.config.downloadDir);
    writeFileSync(file, 'notice("y")\n');
    await retry(node, update);
    await node.apply(now + 800);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'STAGED', badContent: 1 });
    await node.apply(now + 870);
    await node.apply(now + 940);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'POISONED', badContent: 3 });
  });

  it('stays given up when it has expired, or a newer version has replaced it', async () => {
    const { node, update } = await makePoisoned(now + 750);
    const [retried] = await retry(node);
    expect(retried?.isRetried).toBe(false);
    expect(retried?.reason).toMatch(/^it expired at 20/);
    await expect(retry(node, update)).rejects.toMatchObject({ code: 'refused' });
    const { node: other, update: old } = await makePoisoned();
    other.receive({ kind: 'file', name: 'b', version: now + 1 }, Buffer.from('b'));
    await expect(retry(other, old)).rejects.toMatchObject({
      code: 'refused',
      message: `${nameOf(old)} is not tried again: a newer version was accepted`,
    });
    expect(other.outcomeOf(old)?.state).toBe('POISONED');
  });

  it('can be named by its channel, and is then the one that counts', async () => {
    const { node, update } = await makePoisoned();
    expect(await retry(node, { channel: 'default', version: null })).toMatchObject([
      { id: { version: now }, isRetried: true },
    ]);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'STAGED', tries: 0 });
    await expect(retry(node, { channel: 'web', version: null })).rejects.toMatchObject({
      code: 'usage',
      message: 'this node knows no update of channel web',
    });
  });

  it('is tried again at once while it waits for its next try', async () => {
    const node = makeApplySide(temporaryDirectory());
    setPuppet(node, 'exit 4');
    const update = node.receive({ kind: 'manifest', name: 'a.pp', version: now }, content);
    await node.apply(now);
    await node.apply(now + 60);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'FAILED', tries: 2 });
    expect(await retry(node, { channel: 'default', version: null }, now + 61)).toMatchObject([
      { isRetried: true },
    ]);
    setPuppet(node, 'exit 0');
    await node.apply(now + 61);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
  });

  it('cannot be retried when it is unknown, or has not failed', async () => {
    const { node, update } = await makePoisoned();
    const unknown = { ...update, version: 7 };
    await expect(retry(node, unknown)).rejects.toMatchObject({
      code: 'usage',
      hint: `what failed here: ${nameOf(update)}`,
    });
    await retry(node);
    for (const wanted of [update, { channel: 'default', version: null }])
      await expect(retry(node, wanted)).rejects.toMatchObject({
        code: 'refused',
        message: `there is nothing to try again: ${nameOf(update)} is STAGED (tried again by hand)`,
        hint: 'nothing has failed here',
      });
  });

  it('is not touched while an update is being applied', async () => {
    const { node, update } = await makePoisoned();
    const lock = join(node.config.applyDir, 'apply.lock');
    const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; read end']);
    onTestFinished(() => void holder.stdin.end());
    await once(holder.stdout, 'data');
    await expect(retry(node)).rejects.toMatchObject({ code: 'try-later' });
    expect(node.outcomeOf(update)?.state).toBe('POISONED');
  });
});

describe('an interruption of apply', () => {
  it.each(['SIGKILL', 'SIGTERM'] as const)('by %s is no failed try', async (signal) => {
    const node = makeApplySide(temporaryDirectory());
    const begun = join(dirname(node.config.puppet.command), 'begun');
    setPuppet(node, `echo run >> '${begun}'; sleep 60`);
    const update = node.receive({ kind: 'manifest', name: 'a.pp' }, content);
    const file = join(dirname(node.config.puppet.command), 'config.json');
    writeFileSync(file, JSON.stringify({ ...node.config, trigger: 'spawn' }));
    const [program = '', ...args] = programArgv('p2p-update.cjs apply');
    const run = spawn(program, args, {
      env: { PATH: process.env['PATH'], P2P_UPDATE_CONFIG: file },
      stdio: 'ignore',
    });
    const exit = once(run, 'exit');
    await waitFor('Puppet is at it', () => node.outcomeOf(update)?.state === 'APPLYING');
    run.kill(signal);
    await exit;
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLYING', tries: 0 });
    setPuppet(node, 'exit 0');
    await node.apply();
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED', tries: 0 });
  });

  it('between FAILED and POISONED costs no fourth try', async () => {
    const { node, update } = await makePoisoned();
    // The record before is that of the third failure.
    const file = join(node.config.applyDir, 'outcomes', `default@${String(now).padStart(16, '0')}`);
    const { replaceRecord } = await import('../../../../lib/system/record.ts');
    replaceRecord(file, { ...node.outcomeOf(update), state: 'FAILED', nextTryAt: 0 }, 0o644);
    await node.apply(now + 800);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'POISONED', tries: 3 });
  });

  it('ends an update that a newer version replaces meanwhile', async () => {
    const { node, update } = await makePoisoned();
    await retry(node);
    const file = join(node.config.applyDir, 'outcomes', `default@${String(now).padStart(16, '0')}`);
    const { replaceRecord } = await import('../../../../lib/system/record.ts');
    replaceRecord(file, { ...node.outcomeOf(update), state: 'APPLYING' }, 0o644);
    node.receive({ kind: 'file', name: 'b', version: now + 1 }, Buffer.from('b'));
    await node.apply(now + 800);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'SUPERSEDED' });
    expect(stagedIn(node)).toEqual([]);
  });
});

describe('p2p-update retry', () => {
  const run = (node: ApplySide, args: string[], argv = programArgv('p2p-update.cjs retry')) => {
    const file = join(dirname(node.config.puppet.command), 'config.json');
    writeFileSync(file, JSON.stringify({ ...node.config, trigger: 'spawn' }));
    return runSync([...argv, ...args], {
      cwd: '/',
      env: { PATH: process.env['PATH'], P2P_UPDATE_CONFIG: file },
    });
  };

  it.each([
    [['Not a channel'], /"Not a channel" is neither a channel nor CHANNEL@VERSION/],
    [['a@1', 'b@2'], /one channel or update at a time/],
    [['--all'], /there is no option --all/],
  ])('refuses %j', async (args, reason) => {
    const { node } = await makePoisoned();
    const { status, stderr } = run(node, args);
    expect(status).toBe(64);
    expect(stderr).toMatch(reason);
    expect(stderr).toMatch(/^retry: error: .+\nretry: hint: .+ retry --help\n$/);
  });

  it.each([
    [['--retry', 'a@1'], /retry a@1\n$/],
    [['--retry'], /retry\n$/],
  ])('is the command that reconcile names for %j', async (args, hint) => {
    const { node } = await makePoisoned();
    const outcome = run(node, args, programArgv('p2p-update.cjs reconcile'));
    expect(outcome).toMatchObject({ status: 64, stdout: '' });
    expect(outcome.stderr).toMatch(hint);
  });

  it('is needed for one update: reconcile takes none', async () => {
    const { node } = await makePoisoned();
    const { status, stderr } = run(node, ['a@1'], programArgv('p2p-update.cjs reconcile'));
    expect(status).toBe(64);
    expect(stderr).toMatch(/a@1 has no meaning here/);
  });

  it('names the updates that it tries again, and tries them', async () => {
    const { node, update } = await makePoisoned();
    setPuppet(node, 'exit 0');
    const { stdout } = run(node, [nameOf(update)]);
    expect(stdout).toBe(`retry: ${nameOf(update)} is tried again\n`);
    expect(node.outcomeOf(update)?.state).toBe('APPLIED');
    expect(run(node, []).stdout).toBe(
      'retry: there is nothing to try again: no update has failed on this node\n',
    );
  });

  it.skipIf(process.geteuid?.() !== 0)('is for the owner of "applyDir" alone', async () => {
    const { node, update } = await makePoisoned();
    chmodSync(dirname(node.config.stateDir), 0o755);
    mkdirSync(node.config.stateDir, { recursive: true });
    mustRun(['chown', '-R', '65534', node.config.stateDir]);
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const { status, stderr } = run(
      node,
      [],
      [...nobody, ...programArgv('p2p-update.cjs retry', distForOthers())],
    );
    expect(stderr).toMatch(/apply: of another user\nretry: hint: .*as root/);
    expect(status).toBe(78);
    expect(node.outcomeOf(update)?.state).toBe('POISONED');
  });
});
