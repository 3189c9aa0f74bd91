import { contentName, isExpired, type Update } from '../../announcement/update.ts';
import { hasLostItsFiles, type Torrent } from '../../daemons/transmission/torrent.ts';
import type { Progress } from '../../state/progress.ts';
import { isPastContent } from '../../state/states.ts';
import type { TorrentData } from './torrent-data.ts';

const stalledAfterSeconds = 60;
/** What nobody has is tried ever more seldom. */
const maxTryAfterSeconds = 900;
/** The daemon answers before it has loaded its torrents; measured, that takes less than a second. */
export const loadingSeconds = 10;
/** Longer than the minute between two wake-ups by a timer. */
const callsAgainForSeconds = 90;
/** Both times are cut to seconds, and the daemon's clock ticks once a second. */
const clockSlackSeconds = 2;

/** Where the daemon is to have it: wherever all of it is, or where the daemon may write. */
type Where = 'where it is' | 'download';

/** What advance does next for the current update of a channel. */
export type Step =
  | { kind: 'nothing' }
  /** Nothing can be said for some seconds. */
  | { kind: 'wait'; seconds: number; reason: string }
  /** There is nothing to download. */
  | { kind: 'mark-complete'; mark: boolean }
  /** Give the torrent to Transmission; `copy`: the apply side will want a copy of the content. */
  | { kind: 'add'; copy: boolean }
  /** Take the torrent out, leave what is on disk, and give it to Transmission anew, which then checks it. */
  | {
      kind: 're-add';
      state: 'QUEUED' | 'STALLED';
      where: Where;
      copy: boolean;
      badContent: number;
      reason: string;
    }
  /** Take the torrent out with its data, and end the update. */
  | { kind: 'drop'; state: 'EXPIRED' | 'REJECTED'; reason: string }
  /** Have Transmission check its pieces; `resume`: and start it then, since it is stopped. */
  | { kind: 'verify'; badContent: number; reason: string; resume: boolean }
  /**
   * Transmission has all of it; `mark`: tell the apply side; `resume`: it is stopped; `announcePeers`: it knows
   * none of those who want it.
   */
  | { kind: 'complete'; mark: boolean; resume: boolean; announcePeers: boolean }
  /** Transmission is at it; `resume`: it was stopped; `announcePeers`: it knows no peer. */
  | {
      kind: 'download';
      state: 'QUEUED' | 'STALLED';
      reason: string;
      resume: boolean;
      announcePeers: boolean;
    };

/** What the decision rests on; nothing else is looked at. */
export interface StepInput {
  update: Update;
  /** Undefined when Transmission does not have it. */
  torrent: Torrent | undefined;
  /** What is on disk of it. */
  data: TorrentData;
  /** Where its directory is: ours to download to, the submitter's to seed from, or another one. */
  place: 'download' | 'publish' | 'other';
  /** Since the daemon started. */
  daemonSeconds: number;
  /** Advance's own record, undefined before the first step. */
  progress: Progress | undefined;
  /** The apply side's record. */
  outcome: Progress | undefined;
  /** Whether the apply side was told already that it is complete. */
  isMarked: boolean;
  /** Unix seconds. */
  now: number;
}

/** Decides the next step from facts and Transmission's state alone. */
export function decideStep(input: StepInput): Step {
  const { update, torrent, data, progress, outcome, isMarked, now } = input;

  if (update.kind === 'withdraw')
    return outcome === undefined ? { kind: 'mark-complete', mark: !isMarked } : { kind: 'nothing' };
  // The apply side is past the content, but the fleet may still want it from us.
  const isPast = outcome !== undefined && isPastContent(outcome.state);
  const end = ending(input, isPast);
  if (end !== undefined) return end;

  const badContent = outcome?.badContent ?? progress?.badContent ?? 0;
  const copy = !isPast;
  if (torrent === undefined) {
    const wasAdded = /^(QUEUED|STALLED|COMPLETE)$/.test(progress?.state ?? '');
    const seconds = loadingSeconds - input.daemonSeconds;
    if (wasAdded && seconds > 0) {
      const reason = 'Transmission has just started, and may not know it yet';
      return { kind: 'wait', seconds, reason };
    }
    return { kind: 'add', copy };
  }
  const lie = torrent.hasMetadata ? metadataFault(update, torrent) : undefined;
  if (lie !== undefined) return { kind: 'drop', state: 'REJECTED', reason: lie };

  const isGone = data === 'missing' || data === 'elsewhere';
  const resume = torrent.status === 'stopped';
  const isComplete = torrent.hasMetadata && torrent.percentDone === 1;
  const again = (reason: string, more: Partial<Extract<Step, { kind: 're-add' }>> = {}): Step => ({
    ...{ kind: 're-add', state: 'QUEUED', where: 'where it is', copy, badContent, reason },
    ...more,
  });
  const verify = (reason: string): Step => ({ kind: 'verify', badContent, reason, resume });
  // After a crash: a torrent whose record was not written is in the daemon's default directory.
  if (input.place === 'other' && !(isPast && isComplete))
    return again(`Transmission has it in ${torrent.downloadDir}`);
  // Data that is being downloaded may be in the daemon's cache alone.
  const isOnDisk = isComplete || resume || hasLostItsFiles(torrent);
  if (torrent.percentDone > 0 && torrent.hasMetadata && isGone && isOnDisk)
    return again('its data was deleted');
  if (outcome !== undefined && badContent !== (progress?.badContent ?? 0))
    return verify(outcome.reason);
  if (torrent.status === 'checking' || torrent.status === 'queued') return { kind: 'nothing' };
  if (isComplete && data === 'cut') return verify('its data was cut');
  const startedAt = now - input.daemonSeconds;
  if (isComplete) {
    // Those who could not reach a daemon while it was down leave it alone for 15 min
    // (getReconnectIntervalSecs in peer-mgr.c), and it has forgotten them: it has to call.
    const completeAt = Date.parse(progress?.at.COMPLETE ?? '') / 1000;
    const announcePeers =
      resume || (startedAt > completeAt && input.daemonSeconds < callsAgainForSeconds);
    return { kind: 'complete', mark: !isPast && !isMarked, resume, announcePeers };
  }

  const queuedAt = Date.parse(progress?.at.QUEUED ?? '') / 1000;
  const hasForgotten = progress?.state === 'COMPLETE' || startedAt > queuedAt + clockSlackSeconds;
  if (hasForgotten && data === 'elsewhere') return again('its data is in another directory');
  if (torrent.hasMetadata && hasForgotten)
    return verify('Transmission was started again, and may not know what it has');
  // The daemon may only read there.
  if (input.place === 'publish')
    return again('what was submitted here is damaged', { where: 'download' });

  // Peers prove nothing: in a fleet all who lack it are connected to each other.
  const lastActiveAt = Math.max(queuedAt, torrent.activeAt);
  const isStalled = torrent.rateDownload === 0 && now - lastActiveAt > stalledAfterSeconds;
  // A daemon that was busy with other torrents of ours has refused this one's calls, and is left alone
  // for up to hours (getReconnectIntervalSecs in peer-mgr.c): that is forgotten with the torrent only.
  const nextTryAfter = Math.max(torrent.addedAt - queuedAt, stalledAfterSeconds);
  const isGivenUp = torrent.percentDone === 0 && torrent.peersConnected === 0 && !resume;
  if (isStalled && isGivenUp && now - torrent.addedAt > Math.min(nextTryAfter, maxTryAfterSeconds))
    return again('nothing came for a minute', { state: 'STALLED' });
  return {
    kind: 'download',
    state: isStalled ? 'STALLED' : 'QUEUED',
    reason: isStalled ? 'nothing came for a minute' : 'in Transmission',
    resume,
    announcePeers: torrent.peersConnected === 0,
  };
}

/** Why the update is not to go on, nor to be seeded, if so; also when it was decided before. */
function ending({ update, progress, outcome, now }: StepInput, isPast: boolean): Step | undefined {
  const rejected = [outcome, progress].find((each) => each?.state === 'REJECTED');
  if (rejected !== undefined) return { kind: 'drop', state: 'REJECTED', reason: rejected.reason };
  // Content of somebody else's making is seeded no longer than it may be applied. What expired by
  // a clock that was wrong counts again.
  if (isPast || !isExpired(update, now)) return undefined;
  return { kind: 'drop', state: 'EXPIRED', reason: 'it expired before it could be applied' };
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
