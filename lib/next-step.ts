import type { Progress } from './progress.ts';
import { contentName, isExpired, type Update } from './update.ts';
import type { Torrent } from './transmission.ts';

const stalledAfterSeconds = 60;

/** What advance does next for the current update of a channel. */
export type Step =
  | { kind: 'nothing' }
  /** There is nothing to download. */
  | { kind: 'tell'; mark: boolean }
  /** Give the torrent to Transmission; `record`: and write QUEUED down. */
  | { kind: 'add'; record: boolean }
  /** Take the torrent out with its data, and end the update. */
  | { kind: 'drop'; state: 'EXPIRED' | 'REJECTED'; reason: string }
  /** Have Transmission check its pieces: the apply side found the content to be wrong. */
  | { kind: 'verify'; badContent: number; reason: string }
  /** Transmission has all of it; `mark`: tell the apply side. */
  | { kind: 'complete'; mark: boolean }
  /** Transmission is at it; `resume`: it was stopped; `feed`: it knows no peer. */
  | {
      kind: 'download';
      state: 'QUEUED' | 'STALLED';
      reason: string;
      resume: boolean;
      feed: boolean;
    };

/**
 * Decides the next step from facts and Transmission's state alone.
 *
 * @param torrent undefined when Transmission does not have it
 * @param progress advance's own record, undefined before the first step
 * @param outcome the apply side's record
 * @param isMarked whether the apply side was told already that it is complete
 * @param now unix seconds
 */
export function decideStep(input: {
  update: Update;
  torrent: Torrent | undefined;
  progress: Progress | undefined;
  outcome: Progress | undefined;
  isMarked: boolean;
  now: number;
}): Step {
  const { update, torrent, progress, outcome, isMarked, now } = input;

  if (update.kind === 'withdraw')
    return outcome === undefined ? { kind: 'tell', mark: !isMarked } : { kind: 'nothing' };
  if (progress?.state === 'EXPIRED' || progress?.state === 'REJECTED') return { kind: 'nothing' };
  if (outcome?.state === 'EXPIRED' || outcome?.state === 'REJECTED')
    return { kind: 'drop', state: outcome.state, reason: outcome.reason };
  // Content of somebody else's making is seeded no longer than it may be applied.
  if (outcome === undefined && isExpired(update, now))
    return { kind: 'drop', state: 'EXPIRED', reason: 'it expired before it could be applied' };

  // The apply side is past the content, but the fleet may still want it from us.
  const isStaged = outcome !== undefined && outcome.state !== 'QUEUED';
  if (torrent === undefined) return { kind: 'add', record: !isStaged };
  const lie = torrent.hasMetadata ? metadataFault(update, torrent) : undefined;
  if (lie !== undefined) return { kind: 'drop', state: 'REJECTED', reason: lie };
  const badContent = outcome?.badContent ?? 0;
  if (outcome !== undefined && badContent > (progress?.badContent ?? 0))
    return { kind: 'verify', badContent, reason: outcome.reason };
  if (torrent.status === 'checking' || torrent.status === 'queued') return { kind: 'nothing' };
  if (torrent.hasMetadata && torrent.percentDone === 1)
    return { kind: 'complete', mark: !isStaged && !isMarked };

  const queuedAt = Date.parse(progress?.at.QUEUED ?? '') / 1000;
  // Peers prove nothing: in a fleet all who lack it are connected to each other.
  const lastActiveAt = Math.max(queuedAt, torrent.activeAt);
  const isStalled = torrent.rateDownload === 0 && now - lastActiveAt > stalledAfterSeconds;
  return {
    kind: 'download',
    state: isStalled ? 'STALLED' : 'QUEUED',
    reason: isStalled ? 'nothing came for a minute' : 'in Transmission',
    resume: torrent.status === 'stopped',
    feed: torrent.peersConnected === 0,
  };
}

/** The info hash is SHA-1, which collides: what its metadata says has to be what was signed. */
function metadataFault(update: Update, torrent: Torrent): string | undefined {
  if (torrent.totalSize !== update.length)
    return `its metadata says ${torrent.totalSize} bytes, the announcement ${update.length}`;
  if (torrent.pieceLength !== update.pieceLength)
    return `its metadata has pieces of ${torrent.pieceLength} bytes, the announcement of ${update.pieceLength}`;
  const [file, ...more] = torrent.files;
  return file?.name === contentName(update) && more.length === 0
    ? undefined
    : 'its metadata names other files than the announcement';
}
