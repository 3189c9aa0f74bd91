import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes a Node process print its peak memory at its exit.
 *
 * @param directory gets the module that does it
 * @returns arguments of Node, before those of the program
 */
export function peakMemoryArguments(directory: string): string[] {
  const probe = join(directory, 'peak.cjs');
  writeFileSync(
    probe,
    // Not getrusage(2), which tells the memory of the parent where that had more (test/attacks/bomb-probe.ts).
    `const fs = require('fs');
    process.on('exit', () => {
      const status = fs.readFileSync('/proc/self/status', 'utf8');
      fs.writeSync(2, 'peak ' + /^VmHWM:\\s+(\\d+) kB$/m.exec(status)[1]);
    });`,
  );
  return ['--require', probe];
}

/** The peak memory of a process that ran with {@link peakMemoryArguments}, in MiB; NaN when it told none. */
export function peakMemoryMb(stderr: string): number {
  return Number(/peak (\d+)/.exec(stderr)?.[1]) / 1024;
}
