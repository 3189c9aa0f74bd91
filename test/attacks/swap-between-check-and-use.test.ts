import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { copyToStaging, stagingOf } from '../../lib/reconciler/apply/staging.ts';
import { contentLocation } from '../../lib/announcement/update.ts';
import { makeApplySide } from '../support/fleet/apply-side.ts';
import { startSwapper } from './swapper.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { mustRun, runSync } from '../support/run/command.ts';

// A user that can write into the download directory swaps content between its check and its use: only
// root's own copy, hashed while it is made, is ever applied.

const rounds = 1_000;
/** More than one read, so that a swap can fall between two. */
const length = 2 ** 20 + 4_096;
const good = Buffer.alloc(length, 'good ');
const evil = Buffer.alloc(length, 'evil ');

/** In memory, so that the test waits for the race and not for the disk. */
function raceDirectory(): string {
  const directory = join(temporaryDirectory(), 'memory');
  mkdirSync(directory);
  mustRun(['mount', '-t', 'tmpfs', 'tmpfs', directory]);
  onTestFinished(() => void runSync(['umount', '-l', directory]));
  writeFileSync(join(directory, 'good'), good);
  writeFileSync(join(directory, 'evil'), evil);
  return directory;
}

const contentsOf = (directory: string): { good: string; evil: string } => ({
  good: join(directory, 'good'),
  evil: join(directory, 'evil'),
});

test(`in ${rounds} rounds the copy is either refused or exactly what was announced`, async () => {
  const directory = raceDirectory();
  const node = makeApplySide(join(directory, 'node'));
  const { config } = node;
  const update = node.receive({ kind: 'file', name: 'content.bin' }, good);
  const place = contentLocation(update, config.downloadDir).file;
  const { copy } = stagingOf(config.applyDir, update);
  const swapper = await startSwapper(place, config.downloadDir, contentsOf(directory));
  const seen = { copied: 0, refused: 0 };
  const reasons = new Set<string>();
  try {
    for (let round = 0; round < rounds; round += 1) {
      const mismatch = await copyToStaging(config, update);
      if (mismatch === undefined) {
        seen.copied += 1;
        expect(readFileSync(copy).equals(good)).toBe(true);
      } else {
        seen.refused += 1;
        reasons.add(mismatch.reason.replace(/\d+/g, 'N'));
      }
    }
  } finally {
    await swapper.end();
  }
  // Both happened, so that there was a race.
  expect(seen.copied).toBeGreaterThan(rounds / 100);
  expect(seen.refused).toBeGreaterThan(rounds / 100);
  expect([...reasons]).toContain('its SHA-N is not the announced one');
  expect([...reasons]).toContain('it is not a regular file');
});

test('a program that checks a path and then uses it loses', async () => {
  const directory = raceDirectory();
  const place = join(directory, 'place');
  const announced = createHash('sha256').update(good).digest('hex');
  const swapper = await startSwapper(place, directory, contentsOf(directory));
  const seen = { used: 0, refused: 0, lost: 0 };
  try {
    for (let round = 0; round < rounds; round += 1) {
      const sha256 = createHash('sha256')
        .update(await readFile(place))
        .digest('hex');
      if (sha256 !== announced) {
        seen.refused += 1;
        continue;
      }
      seen.used += 1;
      if (!(await readFile(place)).equals(good)) seen.lost += 1;
    }
  } finally {
    await swapper.end();
  }
  expect(seen.lost).toBeGreaterThan(0);
});

test('the whole apply side under a swapper delivers the announced content, or none', async () => {
  const directory = raceDirectory();
  const node = makeApplySide(join(directory, 'node'));
  const fields = { kind: 'file', name: 'content.bin', rerun: true } as const;
  const first = node.receive(fields, good);
  const place = contentLocation(first, node.config.downloadDir).file;
  const delivered = join(node.config.deliveryDir, 'content.bin');
  const swapper = await startSwapper(place, node.config.downloadDir, contentsOf(directory));
  const states: Record<string, number> = {};
  try {
    for (let round = 0; round < 40; round += 1) {
      // The swapper owns the content; this announces it once more.
      const update = node.receive(fields, good);
      await node.apply();
      const state = node.outcomeOf(update)?.state ?? 'none';
      states[state] = (states[state] ?? 0) + 1;
      expect(existsSync(delivered)).toBe(state === 'APPLIED');
      if (state === 'APPLIED') expect(readFileSync(delivered).equals(good)).toBe(true);
      rmSync(delivered, { force: true });
    }
  } finally {
    await swapper.end();
  }
  // Where it was not there for a moment, or cut, the update waits, without an outcome.
  const { APPLIED = 0, QUEUED = 0, none = 0 } = states;
  expect(APPLIED + QUEUED + none).toBe(40);
  expect(APPLIED).toBeGreaterThan(0);
  expect(QUEUED).toBeGreaterThan(0);
});

test('a swap after an update was staged has no effect at all', async () => {
  const directory = temporaryDirectory();
  const node = makeApplySide(directory);
  const { puppet, applyDir, downloadDir } = node.config;
  const standIn = puppet.command;
  // Without Puppet the update waits, staged.
  rmSync(standIn);
  const update = node.receive({ name: 'site.pp' }, Buffer.from('notice("good")'));
  await node.apply();
  expect(node.outcomeOf(update)?.state).toBe('STAGED');
  writeFileSync(contentLocation(update, downloadDir).file, 'notice("evil")');
  writeFileSync(
    standIn,
    `#!/bin/sh\nfor last; do :; done\necho "$last" >'${directory}/path'\ncp "$last" '${directory}/seen'\n`,
    { mode: 0o755 },
  );
  await node.apply();
  expect(node.outcomeOf(update)?.state).toBe('APPLIED');
  expect(readFileSync(join(directory, 'seen'), 'utf8')).toBe('notice("good")');
  const path = readFileSync(join(directory, 'path'), 'utf8').trimEnd();
  expect(path).toBe(stagingOf(applyDir, update).copy);
});
