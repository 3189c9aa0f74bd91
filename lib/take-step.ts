import { markComplete } from './completion.ts';
import type { Config } from './config.ts';
import { UpdateError, describeError } from './errors.ts';
import type { LoggedEvent } from './event-log.ts';
import { magnetUri } from './metainfo.ts';
import type { Step } from './next-step.ts';
import { newProgress, readProgress, updatesDir, writeProgress, type Progress } from './progress.ts';
import { isLegalStep, type State } from './states.ts';
import { keepTorrentFile, metainfoOf } from './torrent-file.ts';
import type { TransmissionClient } from './transmission.ts';
import { contentLocation, idOf, type Update, type UpdateId } from './update.ts';

const checkPollMs = 500;
const checkTimeoutMs = 25_000;

export interface AdvanceDeps {
  transmission: TransmissionClient;
  /** Names the fleet's addresses to a torrent of Transmission, and speeds the swarm up; 30 s at most. */
  feed: (infoHash: string) => Promise<void>;
  /** Unix seconds. */
  now: () => number;
  buildTime: number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
  /** Told what a person should put right; nothing fails because of it. */
  warn: (message: string) => void;
  /** What Transmission's script-torrent-done should be. */
  hook: string;
}

/** Something begun that needs no lock, may take 30 s, and may be lost without harm. */
export type Chore = Promise<void>;

/** Takes one step for one update; returns the chores that it began. */
export async function takeStep(
  step: Step,
  config: Config,
  deps: AdvanceDeps,
  update: Update,
): Promise<Chore[]> {
  const { transmission } = deps;
  const { infoHash } = update;
  const feed = (): Chore => quietly(deps, update, deps.feed(infoHash));
  switch (step.kind) {
    case 'nothing':
      return [];
    case 'tell':
      walkTo(config, deps, update, 'COMPLETE', 'there is nothing to download');
      if (step.mark) markComplete(config.applyDir, infoHash);
      return [];
    case 'add': {
      if (readProgress(updatesDir(config.stateDir), update) === undefined)
        walkTo(config, deps, update, 'ACCEPTED', 'newest of its channel');
      await requireSpace(config, deps, update);
      if (step.record) walkTo(config, deps, update, 'QUEUED', 'in Transmission');
      await addTorrent(config, deps, update);
      return [feed()];
    }
    case 'drop':
      walkTo(config, deps, update, step.state, step.reason);
      await transmission.remove(infoHash, { deleteData: true });
      return [];
    case 'verify':
      walkTo(config, deps, update, 'QUEUED', step.reason, { badContent: step.badContent });
      await transmission.verify(infoHash);
      return [quietly(deps, update, awaitCheck(config, deps, update))];
    case 'complete': {
      const isNew = readProgress(updatesDir(config.stateDir), update) === undefined;
      walkTo(config, deps, update, 'COMPLETE', 'downloaded');
      if (step.mark) markComplete(config.applyDir, infoHash);
      const chores = [quietly(deps, update, keepTorrentFile(config, update))];
      // The submitter's own node: it seeds what the others have just been told of.
      if (isNew) chores.push(feed());
      return chores;
    }
    case 'download':
      walkTo(config, deps, update, step.state, step.reason);
      if (step.resume) await transmission.start(infoHash);
      return step.feed ? [feed()] : [];
    default:
      step satisfies never;
      throw new TypeError('unreachable');
  }
}

/** Nothing is queued that has no room: once for the download, once for the copy that is verified and applied. */
async function requireSpace(
  { downloadDir }: Config,
  { transmission }: AdvanceDeps,
  { length }: Update,
): Promise<void> {
  const free = await transmission.freeSpace(downloadDir);
  if (free >= 2 * length) return;
  throw new UpdateError('try-later', `${free} bytes free, twice ${length} are needed`, {
    hint: `free space below ${downloadDir}`,
  });
}

async function addTorrent(config: Config, deps: AdvanceDeps, update: Update): Promise<void> {
  const { transmission, log } = deps;
  const { directory: downloadDir } = contentLocation(update, config.downloadDir);
  const metainfo = metainfoOf(update);
  await transmission.add({
    ...(metainfo === undefined ? { magnet: magnetUri(update) } : { metainfo }),
    downloadDir,
  });
  log({
    decision: 'queued',
    reason: metainfo === undefined ? 'magnet' : 'metainfo',
    ...idOf(update),
  });
}

/** After a check that found nothing wrong Transmission runs no hook: mark it again ourselves. */
async function awaitCheck(config: Config, deps: AdvanceDeps, { infoHash }: Update): Promise<void> {
  const deadline = performance.now() + checkTimeoutMs;
  while (performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, checkPollMs));
    const torrent = await deps.transmission.get(infoHash);
    if (torrent === undefined) return;
    if (torrent.status === 'checking' || torrent.status === 'queued') continue;
    if (torrent.percentDone === 1) markComplete(config.applyDir, infoHash);
    return;
  }
}

/** Records a state, by way of QUEUED where the direct step is not legal. */
export function walkTo(
  config: Config,
  { now, log }: Pick<AdvanceDeps, 'now' | 'log'>,
  update: UpdateId & Pick<Update, 'infoHash' | 'sha256' | 'noop'>,
  state: State,
  reason: string,
  more: Partial<Pick<Progress, 'badContent'>> = {},
): void {
  const directory = updatesDir(config.stateDir);
  const write = (from: Progress, to: State, why: string, extra = {}): Progress =>
    writeProgress(directory, update, from, { state: to, reason: why, ...extra }, now());
  let progress =
    readProgress(directory, update) ??
    write(newProgress(update), 'ACCEPTED', 'newest of its channel');
  if (progress.state === state && Object.keys(more).length === 0) return;
  if (!isLegalStep(progress.state, state)) progress = write(progress, 'QUEUED', 'in Transmission');
  write(progress, state, reason, more);
  if (state !== 'QUEUED') log({ decision: state.toLowerCase(), reason, ...idOf(update) });
}

/** A chore's failure is a line in the log: the next wake-up does it again. */
async function quietly(deps: AdvanceDeps, update: Update, chore: Promise<void>): Promise<void> {
  try {
    await chore;
  } catch (error) {
    deps.log({ decision: 'wait', reason: describeError(error), ...idOf(update) });
  }
}
