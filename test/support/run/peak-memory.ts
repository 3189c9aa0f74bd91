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
    `process.on('exit', () => require('fs').writeSync(2, 'peak ' + process.resourceUsage().maxRSS));`,
  );
  return ['--require', probe];
}

/** The peak memory of a process that ran with {@link peakMemoryArguments}, in MiB; NaN when it told none. */
export function peakMemoryMb(stderr: string): number {
  return Number(/peak (\d+)/.exec(stderr)?.[1]) / 1024;
}
