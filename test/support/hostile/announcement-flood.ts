import { linkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { updateKey } from '../../../lib/announcement/update.ts';
import { announcementsDir } from '../../../lib/state/layout.ts';

/** ext4 gives a file 65,000 links at most. */
const linksOfOneFile = 60_000;

/** Plants empty files among the announcements, of so many channels in turn; links, which are made faster. */
export function plantAnnouncements(stateDir: string, files: number, channels: number): void {
  let linked = '';
  for (let index = 0; index < files; index += 1) {
    const id = { channel: `a${index % channels}`, version: index + 1 };
    const name = join(announcementsDir(stateDir), updateKey(id));
    if (index % linksOfOneFile === 0) writeFileSync((linked = name), '');
    else linkSync(linked, name);
  }
}
