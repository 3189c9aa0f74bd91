import { spawnSync } from 'node:child_process';
import { linkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { updateKey } from '../../lib/announcement/update.ts';
import { announcementsDir } from '../../lib/state/layout.ts';
import { makeApplySide } from '../support/fleet/apply-side.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';

const planted = 200_000;
/** Of the whole process: an idle Node has some 40 MB. */
const maxPeakMb = 100;

it('200,000 empty files among the announcements neither fill root’s memory nor hide a due update', () => {
  const directory = temporaryDirectory();
  const node = makeApplySide(directory);
  const due = node.receive({ kind: 'file', channel: 'web', name: 'f.bin' }, Buffer.from('due'));
  let linked = '';
  for (let index = 0; index < planted; index += 1) {
    const id = { channel: `a${index % 50}`, version: index + 1 };
    const name = join(announcementsDir(node.config.stateDir), updateKey(id));
    // ext4 gives a file 65,000 links at most.
    if (index % 60_000 === 0) writeFileSync((linked = name), '');
    else linkSync(linked, name);
  }
  const configFile = join(directory, 'config.json');
  writeFileSync(configFile, JSON.stringify(node.config));
  const probe = join(directory, 'peak.cjs');
  writeFileSync(
    probe,
    `process.on('exit', () => require('fs').writeSync(2, 'peak ' + process.resourceUsage().maxRSS));`,
  );
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--require', probe, join(repository, 'dist/p2p-update.cjs'), 'apply'],
    { env: { PATH: process.env['PATH'], P2P_UPDATE_CONFIG: configFile }, encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  expect(node.outcomeOf(due)?.state).toBe('APPLIED');
  expect(Number(/peak (\d+)/.exec(stderr)?.[1]) / 1024).toBeLessThan(maxPeakMb);
});
