import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';

/** Serf waits 2 s for an answer, and the agent runs one handler at a time. */
const timeoutSeconds = 0.5;

/** A download, by Transmission's word. */
export interface Download {
  /** Whole, 0 to 100. */
  percent: number;
  bytesPerSecond: number;
}

/** Finds how far torrents are, by their info hashes. */
export type AskDownloads = (
  infoHashes: readonly string[],
) => Promise<ReadonlyMap<string, Download>>;

/** Asks this node's Transmission; knows nothing where that does not answer at once. */
export function downloadsOf({ transmission }: Pick<Config, 'transmission'>): AskDownloads {
  return async (infoHashes) => {
    if (infoHashes.length === 0) return new Map();
    // Most answers need no client.
    const { askRates } = await import('../daemons/transmission/rates.ts');
    try {
      const rates = await askRates({ ...transmission, timeoutSeconds }, infoHashes);
      return new Map(
        [...rates].map(([infoHash, { percentDone, bytesPerSecond }]) => {
          const percent = Math.min(100, Math.max(0, Math.floor(percentDone * 100)));
          return [infoHash, { percent, bytesPerSecond: Math.max(0, Math.floor(bytesPerSecond)) }];
        }),
      );
    } catch (error) {
      if (error instanceof UpdateError) return new Map();
      throw error;
    }
  };
}

/** Parses `[percent, bytesPerSecond]` of a member's response; null for anything else. */
export function parseDownload(value: unknown): Download | null {
  const [percent, bytesPerSecond] = Array.isArray(value) ? (value as unknown[]) : [];
  return isCountTo(percent, 100) && isCountTo(bytesPerSecond, Number.MAX_SAFE_INTEGER)
    ? { percent, bytesPerSecond }
    : null;
}

/** The form in which {@link parseDownload} takes it. */
export function formatDownload({ percent, bytesPerSecond }: Download): [number, number] {
  return [percent, bytesPerSecond];
}

function isCountTo(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}
