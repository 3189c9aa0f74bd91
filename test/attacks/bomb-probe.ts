/**
 * bomb-probe.ts detect|unpack FILE DESTINATION: does it as submit or the apply side would (unpacks at
 * most 128 MiB, to be quick), and prints as JSON what came of it and the most memory that it ever had.
 */
import { archiveLimits, unpackArchive } from '../../lib/content/archive.ts';
import { detectKind } from '../../lib/content/detect-kind.ts';
import { describeError } from '../../lib/errors.ts';

const [action = '', file = '', destination = ''] = process.argv.slice(2);
const limits = { ...archiveLimits, maxBytes: 128 * 2 ** 20 };
const actions: Record<string, () => Promise<object>> = {
  detect: () => detectKind(file),
  unpack: async () => ({ entries: (await unpackArchive(file, destination, limits)).size }),
};
const result = await actions[action]?.().catch((error: unknown) => ({
  refused: describeError(error),
}));
// Kilobytes, getrusage(2).
const peakMiB = process.resourceUsage().maxRSS / 1024;
process.stdout.write(JSON.stringify({ ...result, peakMiB }));
