import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { magnetUri, withAnnounceUrl } from '../../announcement/metainfo.ts';
import { idOf, nameOf, type Update, type UpdateId } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import type { Announcer, AnnounceOutcome } from '../../daemons/transmission/announce-peers.ts';
import type { TransmissionClient } from '../../daemons/transmission/client.ts';
import { describeError, hasErrno, UpdateError } from '../../errors.ts';
import { dataDirectories, placeOf } from '../../state/content-place.ts';
import { updatesDir } from '../../state/layout.ts';
import { markComplete } from '../../state/markers.ts';
import {
  newProgress,
  noteReason,
  type Progress,
  readProgress,
  writeProgress,
} from '../../state/progress.ts';
import { isLegalStep, type State } from '../../state/states.ts';
import type { LoggedEvent } from '../../system/event-log.ts';
import type { Step } from './next-step.ts';
import { copyContent, requireReadable } from './torrent-data.ts';
import { keepTorrentFile, keptMetainfo, metainfoOf } from './torrent-file.ts';

const checkPollMs = 500;
const checkTimeoutMs = 25_000;

export interface AdvanceDeps {
  transmission: TransmissionClient;
  /** Opens the announce URL with which a torrent is to be added. */
  openAnnouncer: (infoHash: string) => Promise<Announcer | undefined>;
  /**
   * Announces the fleet's addresses to a torrent of Transmission; takes 30 s at most.
   *
   * @param announcer of whose URL the torrent was added with
   */
  announcePeers: (infoHash: string, announcer?: Announcer) => Promise<AnnounceOutcome | undefined>;
  /** Info hashes of torrents that `announcePeers` could not announce: each is to be added again. */
  unannounced: Set<string>;
  /** Unix seconds. */
  nowSeconds: () => number;
  buildTime: number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
  /** Receives the name of each update that advance takes up for the first time. */
  accepted?: (name: string) => void;
  /** Receives faults that a person should put right; no step fails because of them. */
  warn: (message: string) => void;
  /** Paths of which Transmission's script-torrent-done should have one, the best one first. */
  hooks: readonly string[];
}

/**
 * Work that needs no lock, may take 30 s, and may be lost without harm; 'look again': advance has a next
 * step when it has ended.
 */
export type BackgroundTask = Promise<'look again' | undefined>;

/**
 * Takes one step for one update: the durable fact first, then the effect, so that a killed one is taken
 * again.
 *
 * @returns the background tasks that it began
 */
export async function takeStep(
  step: Step,
  config: Config,
  deps: AdvanceDeps,
  update: Update,
): Promise<BackgroundTask[]> {
  const { transmission } = deps;
  const { infoHash } = update;
  switch (step.kind) {
    case 'nothing':
      return [];
    case 'wait':
      deps.log({ decision: 'wait', reason: step.reason, ...idOf(update) });
      return [sleep(step.seconds * 1000, 'look again' as const)];
    case 'mark-complete':
      transitionTo(config, deps, update, 'COMPLETE', 'there is nothing to download');
      if (step.mark) markComplete(config.applyDir, infoHash);
      return [];
    case 'add': {
      recordAccepted(config, deps, update);
      const { directory } = await requireSpace(config, deps, update, step);
      transitionTo(config, deps, update, 'QUEUED', 'in Transmission');
      return [announce(deps, update, await addTorrent(config, deps, update, directory))];
    }
    case 're-add': {
      const { directory } = await requireSpace(config, deps, update, step);
      transitionTo(config, deps, update, step.state, step.reason, { badContent: step.badContent });
      await transmission.remove(infoHash, { deleteData: false });
      return [announce(deps, update, await addTorrent(config, deps, update, directory))];
    }
    case 'drop':
      transitionTo(config, deps, update, step.state, step.reason);
      return [];
    case 'verify':
      // Recorded afterwards: a check too many does no harm, a recorded one that never ran does.
      await transmission.verify(infoHash);
      // A start during a check takes effect after it.
      if (step.resume) await transmission.start(infoHash);
      transitionTo(config, deps, update, 'QUEUED', step.reason, { badContent: step.badContent });
      return [quietly(deps, update, awaitCheck(config, deps, update))];
    case 'copy':
      await requireReadable(update, step.from);
      transitionTo(config, deps, update, 'QUEUED', step.reason);
      return [copyContent(config, update, step.from).then(() => 'look again' as const)];
    case 'complete': {
      const isNew = readProgress(updatesDir(config.stateDir), update) === undefined;
      transitionTo(config, deps, update, 'COMPLETE', 'downloaded');
      if (step.mark) markComplete(config.applyDir, infoHash);
      if (step.resume) await transmission.start(infoHash);
      const tasks = [quietly(deps, update, keepTorrentFile(config, update))];
      // isNew: the submitter's own node, the only seed of an update that the others have just heard of.
      if (isNew || step.announcePeers) tasks.push(announce(deps, update));
      return tasks;
    }
    case 'download':
      transitionTo(config, deps, update, step.state, step.reason);
      if (step.resume) await transmission.start(infoHash);
      return step.announcePeers ? [announce(deps, update)] : [];
    default:
      step satisfies never;
      throw new TypeError('unreachable');
  }
}

/** Step that gives a torrent to Transmission. */
export type AddStep = Extract<Step, { kind: 'add' | 're-add' }>;

/**
 * Checks that there is room for an update before it is queued: for the download, unless it is there, and for
 * the copy that is verified and applied.
 *
 * @returns the directory of its data
 * @throws UpdateError `try-later` when there is not
 */
export async function requireSpace(
  config: Config,
  { transmission }: Pick<AdvanceDeps, 'transmission'>,
  update: Update,
  step: AddStep,
): Promise<{ directory: string }> {
  const [download] = dataDirectories(config, update);
  const { directory, isThere } =
    step.kind === 're-add' && step.where === 'download'
      ? { directory: download, isThere: false }
      : placeOf(config, update);
  const needed = (Number(!isThere) + Number(step.copy)) * update.length;
  if (needed === 0) return { directory };
  // A bare torrent has a directory of its own, which does not exist yet.
  const at = update.sha256 === null ? dirname(directory) : directory;
  const free = await transmission.freeSpace(at);
  if (free >= needed) return { directory };
  throw new UpdateError('try-later', `${free} bytes free, ${needed} are needed`, {
    hint: `free space below ${directory}`,
  });
}

/**
 * Adds the torrent with an announce URL.
 *
 * @param as 'seed': its content is there, and peers wait for it, to which it is to connect at once
 * @returns what serves that URL
 */
export async function addTorrent(
  config: Config,
  deps: AdvanceDeps,
  update: Update,
  downloadDir: string,
  as?: 'seed',
): Promise<Announcer | undefined> {
  const metainfo = metainfoOf(update) ?? keptMetainfo(config, update);
  const announcer = await deps.openAnnouncer(update.infoHash);
  if (announcer !== undefined) announcer.isNaming = as === 'seed';
  try {
    const { url } = announcer ?? {};
    await deps.transmission.add({
      ...(metainfo === undefined
        ? { magnet: magnetUri(update, url) }
        : { metainfo: url === undefined ? metainfo : withAnnounceUrl(metainfo, url) }),
      downloadDir,
    });
  } catch (error) {
    await announcer?.close();
    throw error;
  }
  deps.unannounced.delete(update.infoHash);
  deps.log({
    decision: 'queued',
    reason: metainfo === undefined ? 'magnet' : 'metainfo',
    ...idOf(update),
  });
  return announcer;
}

/** Announces peers to a torrent that Transmission has. */
export function announce(deps: AdvanceDeps, update: Update, announcer?: Announcer): BackgroundTask {
  const { infoHash } = update;
  const outcome = deps.announcePeers(infoHash, announcer).then((which) => {
    if (which !== 'unannounced') return undefined;
    deps.unannounced.add(infoHash);
    return 'look again';
  });
  return quietly(deps, update, outcome);
}

/**
 * Waits for a check of Transmission to end. After one that finds the torrent whole Transmission runs no
 * hook, so it is marked here; after any other one its peers have yet to be announced.
 */
async function awaitCheck(config: Config, deps: AdvanceDeps, { infoHash }: Update): BackgroundTask {
  const deadline = performance.now() + checkTimeoutMs;
  while (performance.now() < deadline) {
    await sleep(checkPollMs);
    const torrent = await deps.transmission.get(infoHash);
    if (torrent?.status === 'checking' || torrent?.status === 'queued') continue;
    if (torrent?.percentDone !== 1) return 'look again';
    markComplete(config.applyDir, infoHash);
    return undefined;
  }
  return undefined;
}

/**
 * Records a state: by way of QUEUED where the direct step is not legal, and from a new record where that
 * is not legal either, as when an ended update counts again.
 */
export function transitionTo(
  config: Config,
  { nowSeconds, log, accepted }: Pick<AdvanceDeps, 'nowSeconds' | 'log' | 'accepted'>,
  update: UpdateId & Pick<Update, 'infoHash' | 'sha256' | 'noop'>,
  state: State,
  reason: string,
  more: Partial<Pick<Progress, 'badContent'>> = {},
): void {
  const directory = updatesDir(config.stateDir);
  const write = (from: Progress, to: State, why: string, extra = {}): Progress =>
    writeProgress(directory, update, from, { state: to, reason: why, ...extra }, nowSeconds());
  const found = readProgress(directory, update);
  if (found?.state === state && Object.keys(more).length === 0) {
    noteReason(directory, update, found, reason);
    return;
  }
  const isUsable =
    found !== undefined && (isLegalStep(found.state, state) || isLegalStep(found.state, 'QUEUED'));
  const why = found === undefined ? 'newest of its channel' : 'it counts again';
  if (found === undefined) accepted?.(nameOf(update));
  let progress = isUsable ? found : write(newProgress(update), 'ACCEPTED', why);
  if (!isUsable && state === 'ACCEPTED') return;
  if (!isLegalStep(progress.state, state)) progress = write(progress, 'QUEUED', 'in Transmission');
  write(progress, state, reason, more);
  if (state !== 'QUEUED') log({ decision: state.toLowerCase(), reason, ...idOf(update) });
}

/** Begins the record of an update, unless it has one. */
function recordAccepted(
  config: Config,
  deps: Pick<AdvanceDeps, 'nowSeconds' | 'log' | 'accepted'>,
  update: Update,
): void {
  if (readProgress(updatesDir(config.stateDir), update) === undefined)
    transitionTo(config, deps, update, 'ACCEPTED', 'newest of its channel');
}

/**
 * Records what keeps an update from going on, without a change of its state: the fleet's status shows it.
 * Cleared by the next step that is taken.
 */
export function recordHindrance(
  config: Config,
  deps: Pick<AdvanceDeps, 'nowSeconds' | 'log' | 'accepted'>,
  update: Update,
  reason: string,
): void {
  const directory = updatesDir(config.stateDir);
  try {
    recordAccepted(config, deps, update);
    const found = readProgress(directory, update);
    if (found !== undefined && /^(ACCEPTED|QUEUED|STALLED)$/.test(found.state))
      noteReason(directory, update, found, reason);
  } catch (error) {
    // A record that is damaged, or a full disk, is told by the step itself.
    if (!(error instanceof UpdateError) && !hasErrno(error, 'ENOSPC', 'EROFS', 'EDQUOT', 'EIO'))
      throw error;
  }
}

/** Logs the failure of work instead of throwing it: the next wake-up does it again. */
async function quietly(deps: AdvanceDeps, update: Update, work: Promise<unknown>): BackgroundTask {
  try {
    return (await work) === 'look again' ? 'look again' : undefined;
  } catch (error) {
    deps.log({ decision: 'wait', reason: describeError(error), ...idOf(update) });
    return undefined;
  }
}
