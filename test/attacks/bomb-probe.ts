/**
 * bomb-probe.ts detect|guess|unpack FILE DESTINATION: does it as submit or the apply side would (unpacks at
 * most 128 MiB, to be quick), and prints as JSON what came of it and the most memory that it ever had.
 */
import { readFileSync } from 'node:fs';
import { archiveLimits, unpackArchive } from '../../lib/content/archive.ts';
import { detectKind } from '../../lib/content/detect-kind.ts';
import { describeError } from '../../lib/errors.ts';

const [action = '', file = '', destination = ''] = process.argv.slice(2);
const limits = { ...archiveLimits, maxBytes: 128 * 2 ** 20 };
const actions: Record<string, () => Promise<object>> = {
  // As its operator would who takes it for a module: all of it is read.
  detect: () => detectKind(file, 'module'),
  guess: () => detectKind(file),
  unpack: async () => ({ entries: (await unpackArchive(file, destination, limits)).size }),
};
const result = await actions[action]?.().catch((error: unknown) => ({
  refused: describeError(error),
}));
// Kilobytes, proc_pid_status(5). The figure of getrusage(2) is that of the parent where that was larger: it
// outlives exec, and a Node that starts processes by vfork shares its memory with them until then.
const status = readFileSync('/proc/self/status', 'utf8');
const peakMiB = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
process.stdout.write(JSON.stringify({ ...result, peakMiB }));
