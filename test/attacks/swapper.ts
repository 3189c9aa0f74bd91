import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';

/** Puts one of two contents of the same length in a place, in one of four ways, as fast as it can. */
const loop = `
const fs = require('node:fs');
const [place, good, evil, temporary] = process.argv.slice(1);
const contents = { good: fs.readFileSync(good), evil: fs.readFileSync(evil) };
const beside = (make) => { fs.rmSync(temporary, { force: true }); make(); fs.renameSync(temporary, place); };
const file = (which) => beside(() => fs.writeFileSync(temporary, contents[which]));
const ways = {
  rename: file,
  truncate: (which) => fs.writeFileSync(place, contents[which]),
  overwrite: (which) => {
    const descriptor = fs.openSync(place, 'r+');
    fs.writeSync(descriptor, contents[which], 0, contents[which].length, 0);
    fs.closeSync(descriptor);
  },
  link: (which) => which === 'good' ? file(which) : beside(() => fs.symlinkSync(evil, temporary)),
};
process.stdout.write('ready');
for (let turn = 0; ; turn += 1) {
  const way = Object.values(ways)[turn % 4];
  way('evil');
  way('good');
}`;

/** A user that can write into the download directory: swaps the file at `place` until ended. */
export async function startSwapper(
  place: string,
  directory: string,
  contents: { good: string; evil: string },
): Promise<{ end(): Promise<void> }> {
  copyFileSync(contents.good, place);
  // On the same file system, for rename(2).
  const temporary = join(directory, '.swapper');
  const args = ['-e', loop, place, contents.good, contents.evil, temporary];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    async end() {
      // It never ends by itself: that it has is a fault of the test.
      if (child.exitCode !== null) throw new Error(`the swapper ended with ${child.exitCode}`);
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
  };
}
