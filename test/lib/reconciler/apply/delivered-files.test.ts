import {
  chmodSync,
  chownSync,
  lstatSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ApplySide, makeApplySide } from '../../../support/fleet/apply-side.ts';
import { mustRun } from '../../../support/run/command.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const content = Buffer.from('as it was delivered');
const file = { kind: 'file', name: 'motd' } as const;

/** A node on which a file was delivered, and the path of that. */
async function makeDelivered(): Promise<{ node: ApplySide; target: string }> {
  const node = makeApplySide(temporaryDirectory());
  node.receive(file, content);
  await node.apply();
  const target = join(node.config.deliveryDir, file.name);
  expect(readFileSync(target)).toEqual(content);
  return { node, target };
}

/** Announces the same content again, and applies what is to be applied. */
async function again(node: ApplySide, change: Parameters<ApplySide['receive']>[0] = file) {
  const update = node.receive(change, content);
  const events = await node.apply();
  return { outcome: node.outcomeOf(update), events };
}

describe('a file that is announced again with the same content', () => {
  it('is left alone while it is as it was delivered', async () => {
    const { node, target } = await makeDelivered();
    const { ino } = lstatSync(target);
    const { outcome } = await again(node);
    expect(outcome).toMatchObject({
      state: 'APPLIED',
      reason: 'this content is applied already',
      run: null,
    });
    expect(lstatSync(target).ino).toBe(ino);
  });

  it.each<[by: string, change: (target: string) => void]>([
    [
      'other content of the same length',
      (target) => {
        writeFileSync(target, 'as it was delivereD');
      },
    ],
    [
      'more content',
      (target) => {
        writeFileSync(target, 'x', { flag: 'a' });
      },
    ],
    [
      'its removal',
      (target) => {
        rmSync(target);
      },
    ],
    [
      'another mode',
      (target) => {
        chmodSync(target, 0o4755);
      },
    ],
    [
      'a link to a file with the same content',
      (target) => {
        writeFileSync(`${target}.elsewhere`, content);
        rmSync(target);
        symlinkSync(`${target}.elsewhere`, target);
      },
    ],
    [
      'a FIFO',
      (target) => {
        rmSync(target);
        mustRun(['mkfifo', target]);
      },
    ],
  ])('is put right after %s', async (_by, change) => {
    const { node, target } = await makeDelivered();
    change(target);
    const { outcome, events } = await again(node);
    expect(outcome).toMatchObject({ state: 'APPLIED', reason: 'applied', run: { changed: 1 } });
    expect(events).toContainEqual(
      expect.objectContaining({
        decision: 'staged',
        reason: 'verified; the delivered file was changed or removed on this node',
      }),
    );
    const stats = lstatSync(target);
    expect(stats.isFile()).toBe(true);
    expect(stats.mode & 0o7777).toBe(0o644);
    expect(readFileSync(target)).toEqual(content);
    // Once only.
    expect((await again(node)).outcome).toMatchObject({ run: null });
  });

  it.skipIf(process.geteuid?.() !== 0)(
    'is put right after another user became its owner',
    async () => {
      const { node, target } = await makeDelivered();
      chownSync(target, 65_534, 65_534);
      await again(node);
      expect(lstatSync(target).uid).toBe(0);
    },
  );

  it('is delivered under another name as well', async () => {
    const { node } = await makeDelivered();
    await again(node, { ...file, name: 'motd.new' });
    expect(readFileSync(join(node.config.deliveryDir, 'motd.new'))).toEqual(content);
  });

  it('fails, and says why, where a directory is in its place', async () => {
    const { node, target } = await makeDelivered();
    rmSync(target);
    mustRun(['mkdir', target]);
    expect((await again(node)).outcome).toMatchObject({
      state: 'FAILED',
      reason: `${target} is a directory: move it away first`,
    });
  });
});

describe('a manifest that is announced again with the same content', () => {
  it('is not run again, and the reason names the option for that', async () => {
    const node = makeApplySide(temporaryDirectory());
    const manifest = { kind: 'manifest', name: 'a.pp' } as const;
    node.receive(manifest, content);
    await node.apply();
    expect((await again(node, manifest)).outcome).toMatchObject({
      state: 'APPLIED',
      reason: 'this content is applied already; submit --rerun runs it again',
      run: null,
    });
    expect((await again(node, { ...manifest, rerun: true })).outcome?.run).not.toBeNull();
  });
});
