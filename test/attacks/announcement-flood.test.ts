import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { makeApplySide } from '../support/fleet/apply-side.ts';
import { plantAnnouncements } from '../support/hostile/announcement-flood.ts';
import { peakMemoryArguments, peakMemoryMb } from '../support/run/peak-memory.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';

const planted = 200_000;
/** All held at once they take 70; `npm run bench:pass` has the peak itself, on an idle machine. */
const maxMoreMb = 50;

/** Applies an update beside so many planted files; returns the peak memory of the program in MiB. */
function applyBeside(files: number): number {
  const directory = temporaryDirectory();
  const node = makeApplySide(directory);
  const due = node.receive({ kind: 'file', channel: 'web', name: 'f.bin' }, Buffer.from('due'));
  plantAnnouncements(node.config.stateDir, files, 50);
  const configFile = join(directory, 'config.json');
  writeFileSync(configFile, JSON.stringify(node.config));
  const { status, stderr } = spawnSync(
    process.execPath,
    [...peakMemoryArguments(directory), join(repository, 'dist/p2p-update.cjs'), 'apply'],
    { env: { PATH: process.env['PATH'], P2P_UPDATE_CONFIG: configFile }, encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  expect(node.outcomeOf(due)?.state).toBe('APPLIED');
  return peakMemoryMb(stderr);
}

it('200,000 empty files among the announcements neither fill root’s memory nor hide a due update', () => {
  const alone = applyBeside(0);
  expect(applyBeside(planted) - alone).toBeLessThan(maxMoreMb);
});
