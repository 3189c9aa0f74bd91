import { contentName, isExpired, type Update } from '../../announcement/update.ts';
import {
  hasCorruptPiece,
  hasFailedAnnounce,
  hasLostItsFiles,
  type Torrent,
} from '../../daemons/transmission/torrent.ts';
import type { Progress } from '../../state/progress.ts';
import { isPastContent } from '../../state/states.ts';
import type { TorrentData } from './torrent-data.ts';

const stalledAfterSeconds = 60;
/** Two of the daemon's periods of unchoking: a peer whose turn it is not yet gets nothing for as long. */
const quietAfterSeconds = 20;
/** Back-off cap for a torrent without peers. */
const maxTryAfterSeconds = 900;
/** The daemon answers before it has loaded its torrents; measured, that takes less than a second. */
export const loadingSeconds = 10;
/** Age of the daemon up to which a complete torrent is announced again: more than the minute between timers. */
const announceAgainForSeconds = 90;
/** Tolerance: both times are cut to seconds, and the daemon's clock ticks once a second. */
const clockSlackSeconds = 2;

/** Place in which the daemon is to have the content: where all of it is, or where the daemon may write. */
type Where = 'where it is' | 'download';

/** Next step of advance for the current update of a channel. */
export type Step =
  | { kind: 'nothing' }
  /** Look again in some seconds: Transmission's state cannot be told yet. */
  | { kind: 'wait'; seconds: number; reason: string }
  /** Record that there is nothing to download; `mark`: tell the apply side. */
  | { kind: 'mark-complete'; mark: boolean }
  /** Give the torrent to Transmission; `copy`: the apply side will need space for a copy of the content. */
  | { kind: 'add'; copy: boolean }
  /** Take the torrent out, leave its data on disk, and give it to Transmission anew, which then checks it. */
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
  /** Copy the whole content from another directory than ours to where the apply side finds it. */
  | { kind: 'copy'; from: string; reason: string }
  /**
   * Record that Transmission has all of it; `mark`: tell the apply side; `resume`: it is stopped;
   * `announcePeers`: it knows none of the nodes that lack it.
   */
  | { kind: 'complete'; mark: boolean; resume: boolean; announcePeers: boolean }
  /** Let Transmission download; `resume`: it was stopped; `announcePeers`: it knows no peer. */
  | {
      kind: 'download';
      state: 'QUEUED' | 'STALLED';
      reason: string;
      resume: boolean;
      announcePeers: boolean;
    };

/** Everything that the decision rests on. */
export interface StepInput {
  update: Update;
  /** Undefined when Transmission does not have it. */
  torrent: Torrent | undefined;
  /** State of its data on disk. */
  data: TorrentData;
  /** Space on the disk of its data, in bytes, and how much of it the rest of the content takes; undefined: unknown. */
  space: { free: number; missing: number } | undefined;
  /** Directory of the torrent: the download directory, the submitter's publish directory, or another one. */
  place: 'download' | 'publish' | 'other';
  /** Age of the daemon. */
  daemonSeconds: number;
  /** Whether there is a copy of the content, which the daemon has in another directory. */
  isCopied: boolean;
  /** Whether its announce URL is missing, or cannot be served. */
  isUnannounced: boolean;
  /** Advance's own record, undefined before the first step. */
  progress: Progress | undefined;
  /** The apply side's record. */
  outcome: Progress | undefined;
  /** Whether its completion marker is there. */
  isMarked: boolean;
  /** Unix seconds. */
  nowSeconds: number;
}

/** Decides the next step from facts and Transmission's state alone. */
export function decideStep(input: StepInput): Step {
  const { update, data, progress, outcome, isMarked, nowSeconds } = input;
  // A time to come was stored by a clock that was ahead: it would hold everything up until then.
  const passed = (at: number): number => (at > nowSeconds + clockSlackSeconds ? 0 : at);
  const torrent = input.torrent && {
    ...input.torrent,
    addedAt: passed(input.torrent.addedAt),
    activeAt: passed(input.torrent.activeAt),
  };

  if (update.kind === 'withdraw')
    return outcome === undefined ? { kind: 'mark-complete', mark: !isMarked } : { kind: 'nothing' };
  // The apply side is past the content, but the fleet may still download it from this node.
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
  const fault = torrent.hasMetadata ? metadataFault(update, torrent) : undefined;
  if (fault !== undefined) return { kind: 'drop', state: 'REJECTED', reason: fault };

  const isGone = data === 'missing' || data === 'elsewhere';
  const resume = torrent.status === 'stopped';
  const isComplete = torrent.hasMetadata && torrent.percentDone === 1;
  const again = (reason: string, more: Partial<Extract<Step, { kind: 're-add' }>> = {}): Step => ({
    ...{ kind: 're-add', state: 'QUEUED', where: 'where it is', copy, badContent, reason },
    ...more,
  });
  const verify = (reason: string): Step => ({ kind: 'verify', badContent, reason, resume });
  // After a crash: a torrent whose record was not written is in the daemon's default directory. A complete
  // torrent stays where somebody has put it, and so does a bare one, which may be anybody's.
  if (input.place === 'other' && !isComplete && update.sha256 !== null)
    return again(`Transmission has it in ${torrent.downloadDir}`);
  // Data that is being downloaded may be in the daemon's cache alone.
  const isOnDisk = isComplete || resume || hasLostItsFiles(torrent);
  if (torrent.percentDone > 0 && torrent.hasMetadata && isGone && isOnDisk)
    return again('its data was deleted');
  if (outcome !== undefined && badContent !== (progress?.badContent ?? 0))
    return verify(outcome.reason);
  if (torrent.status === 'checking' || torrent.status === 'queued') return { kind: 'nothing' };
  // Before anything is fetched again: in its cache the daemon can complete what it then cannot write.
  const { space } = input;
  const isUnfinished = isComplete ? data === 'cut' : resume;
  if (isUnfinished && space !== undefined && space.free < space.missing) {
    const reason = `${space.free} bytes free, ${space.missing} are needed`;
    const none = { resume: false, announcePeers: false };
    return { kind: 'download', state: 'STALLED', reason, ...none };
  }
  if (hasCorruptPiece(torrent)) return verify(faultOf(torrent));
  if (isComplete && data === 'cut') return verify('its data was cut');
  const startedAt = nowSeconds - input.daemonSeconds;
  if (isComplete && input.place === 'other' && !isPast && !input.isCopied)
    return {
      kind: 'copy',
      from: torrent.downloadDir,
      reason: `Transmission has it in ${torrent.downloadDir}`,
    };
  if (isComplete) {
    // Peers that could not reach a daemon while it was down do not try it for 15 min
    // (getReconnectIntervalSecs in peer-mgr.c), and it has forgotten them: it has to connect to them.
    const completeAt = passed(Date.parse(progress?.at.COMPLETE ?? '') / 1000);
    // Answered, a failed announce is not repeated, nor logged, every two hours.
    const isUnanswered = hasFailedAnnounce(torrent) && torrent.peersConnected === 0;
    const announcePeers =
      resume ||
      isUnanswered ||
      (startedAt > completeAt && input.daemonSeconds < announceAgainForSeconds);
    return { kind: 'complete', mark: !isPast && !isMarked, resume, announcePeers };
  }

  const queuedAt = passed(Date.parse(progress?.at.QUEUED ?? '') / 1000);
  const hasForgotten = progress?.state === 'COMPLETE' || startedAt > queuedAt + clockSlackSeconds;
  if (hasForgotten && data === 'elsewhere') return again('its data is in another directory');
  if (torrent.hasMetadata && hasForgotten)
    return verify('Transmission was started again, and may not know what it has');
  // The daemon may only read in the publish directory.
  if (input.place === 'publish')
    return again('the submitted content is damaged', { where: 'download' });

  if (input.isUnannounced && torrent.peersConnected === 0 && torrent.rateDownload === 0)
    return again('it has no announce URL that can be served');

  // Connected peers prove nothing: the nodes that lack the content are connected to each other.
  const lastActiveAt = Math.max(queuedAt, torrent.activeAt);
  const quietSeconds = torrent.rateDownload === 0 ? nowSeconds - lastActiveAt : 0;
  const isQuiet = quietSeconds > quietAfterSeconds;
  const isStalled = quietSeconds > stalledAfterSeconds;
  // A peer that was busy with other torrents of ours has refused connections for this one, and is not
  // tried for up to hours (getReconnectIntervalSecs in peer-mgr.c), unless the torrent is added again.
  const nextTryAfter = Math.max(torrent.addedAt - queuedAt, stalledAfterSeconds);
  const isWithoutPeers = torrent.percentDone === 0 && torrent.peersConnected === 0 && !resume;
  if (
    isStalled &&
    isWithoutPeers &&
    nowSeconds - torrent.addedAt > Math.min(nextTryAfter, maxTryAfterSeconds)
  )
    return again('nothing came for a minute', { state: 'STALLED' });
  // A start clears the daemon's error; it fails again as long as the cause is there.
  const hasFailed = torrent.error !== '';
  return {
    kind: 'download',
    state: isStalled || hasFailed ? 'STALLED' : 'QUEUED',
    reason: hasFailed
      ? faultOf(torrent)
      : isStalled
        ? 'nothing came for a minute'
        : 'in Transmission',
    resume,
    // A peer without metadata may keep the daemon from asking others, and seeds may serve this node no more.
    announcePeers: torrent.peersConnected === 0 || !torrent.hasMetadata || isQuiet,
  };
}

function faultOf({ error }: Torrent): string {
  return `Transmission: ${error}`;
}

/** The drop of an update that is not to go on, nor to be seeded, also when it was decided before. */
function ending(
  { update, progress, outcome, nowSeconds }: StepInput,
  isPast: boolean,
): Step | undefined {
  const rejected = [outcome, progress].find((each) => each?.state === 'REJECTED');
  if (rejected !== undefined) return { kind: 'drop', state: 'REJECTED', reason: rejected.reason };
  // Content that was not applied is seeded no longer than it may be. An update that expired by a wrong
  // clock counts again.
  if (isPast || !isExpired(update, nowSeconds)) return undefined;
  return { kind: 'drop', state: 'EXPIRED', reason: 'it expired before it could be applied' };
}

/** Difference of the metadata from the signed fields, if any: the info hash is SHA-1, which collides. */
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
