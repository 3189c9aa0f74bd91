import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';
import { replaceDurably } from './durable.ts';
import { UpdateError, describeError } from './errors.ts';
import type { LoggedEvent } from './event-log.ts';
import { buildMetainfo, describeContent, infoHashOf, magnetUri } from './metainfo.ts';
import type { Step } from './next-step.ts';
import { newProgress, readProgress, updatesDir, writeProgress, type Progress } from './progress.ts';
import { isLegalStep, type State } from './states.ts';
import { markComplete } from './store.ts';
import type { TransmissionClient } from './transmission.ts';
import { contentLocation, contentName, idOf, type Update, type UpdateId } from './update.ts';

const checkPollMs = 500;
const checkTimeoutMs = 25_000;

export interface AdvanceDeps {
  transmission: TransmissionClient;
  /**
   * Feeds a torrent with the fleet's addresses: hands `give` an announce URL to give to the torrent,
   * then stays for 30 s at most to answer it and to speed the swarm up.
   */
  feed: (infoHash: string, give: (announceUrl: string) => Promise<void>) => Promise<void>;
  /** Unix seconds. */
  now: () => number;
  buildTime: number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
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
  const feedExisting = (): Chore =>
    quietly(
      deps,
      update,
      deps.feed(infoHash, (url) => transmission.addTracker(infoHash, url)),
    );
  switch (step.kind) {
    case 'nothing':
      return [];
    case 'add': {
      if (step.record) walkTo(config, deps, update, 'QUEUED', 'in Transmission');
      return addTorrent(config, deps, update);
    }
    case 'drop':
      walkTo(config, deps, update, step.state, step.reason);
      await transmission.remove(infoHash, { deleteData: true });
      return [];
    case 'verify':
      walkTo(config, deps, update, 'QUEUED', step.reason, { badContent: step.badContent });
      await transmission.verify(infoHash);
      return [awaitCheck(config, deps, update)];
    case 'complete': {
      const isNew = readProgress(updatesDir(config.stateDir), update) === undefined;
      walkTo(config, deps, update, 'COMPLETE', 'downloaded');
      if (step.mark) markComplete(config.stateDir, infoHash);
      const chores = [quietly(deps, update, keepMetainfo(config, update))];
      // The submitter's own node: it seeds what the others have just been told of.
      if (isNew) chores.push(feedExisting());
      return chores;
    }
    case 'download':
      walkTo(config, deps, update, step.state, step.reason);
      if (step.resume) await transmission.start(infoHash);
      return step.feed ? [feedExisting()] : [];
    default:
      step satisfies never;
      throw new TypeError('unreachable');
  }
}

/**
 * Gives a torrent to Transmission with an announce URL of ours, and returns once it is there; the
 * feeding goes on as a chore.
 */
async function addTorrent(config: Config, deps: AdvanceDeps, update: Update): Promise<Chore[]> {
  const { transmission } = deps;
  const { directory: downloadDir } = contentLocation(update, config.downloadDir);
  const free = await transmission.freeSpace(config.downloadDir);
  // Once for the download, once for the copy that is verified and applied.
  if (free < 2 * update.length)
    throw new UpdateError('try-later', `${free} bytes free, twice ${update.length} are needed`, {
      hint: `free space below ${config.downloadDir}`,
    });
  let feeding: Promise<void> | undefined;
  await new Promise<void>((resolve, reject) => {
    feeding = deps.feed(update.infoHash, async (announceUrl) => {
      const metainfo = metainfoOf(update, announceUrl);
      const source =
        metainfo === undefined ? { magnet: magnetUri(update.infoHash, announceUrl) } : { metainfo };
      await transmission.add({ ...source, downloadDir });
      resolve();
    });
    feeding.then(resolve, reject);
  });
  deps.log({
    decision: 'queued',
    reason: update.pieces.length > 0 ? 'metainfo' : 'magnet',
    ...idOf(update),
  });
  return feeding === undefined ? [] : [quietly(deps, update, feeding)];
}

/** The .torrent of an update, when its pieces are known; undefined when they travel as metadata. */
function metainfoOf(update: Update, announceUrl?: string): Buffer | undefined {
  if (update.metainfo !== null) {
    if (announceUrl === undefined) return update.metainfo;
    // The keys of a dictionary are sorted (BEP 3): `announce` comes first.
    const announce = `d8:announce${announceUrl.length}:${announceUrl}`;
    return Buffer.concat([Buffer.from(announce), update.metainfo.subarray(1)]);
  }
  if (update.pieces.length === 0) return undefined;
  return buildMetainfo({ ...update, name: contentName(update) }, announceUrl);
}

/**
 * Keeps the update's .torrent, named by channel and version. When the pieces came as metadata, they
 * are computed again from the content.
 */
async function keepMetainfo(config: Config, update: Update): Promise<void> {
  const file = join(config.stateDir, 'torrents', `${update.channel}-${update.version}.torrent`);
  if (existsSync(file)) return;
  let metainfo = metainfoOf(update);
  if (metainfo === undefined) {
    const bases = [config.downloadDir, config.publishDir];
    const content = bases.map((base) => contentLocation(update, base).file).find(existsSync);
    if (content === undefined) return;
    const { pieces } = await describeContent(content, update.pieceLength);
    const described = { ...update, name: contentName(update), pieces };
    if (infoHashOf(described) !== update.infoHash) return;
    metainfo = buildMetainfo(described);
  }
  if (metainfo !== undefined) replaceDurably(file, metainfo);
}

/** After a check that found nothing wrong Transmission runs no hook: mark it again ourselves. */
async function awaitCheck(config: Config, deps: AdvanceDeps, { infoHash }: Update): Promise<void> {
  const deadline = performance.now() + checkTimeoutMs;
  while (performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, checkPollMs));
    const torrent = await deps.transmission.get(infoHash);
    if (torrent === undefined) return;
    if (torrent.status === 'checking' || torrent.status === 'queued') continue;
    if (torrent.percentDone === 1) markComplete(config.stateDir, infoHash);
    return;
  }
}

/** Records a state, by way of QUEUED where the direct step is not legal. */
export function walkTo(
  config: Config,
  { now, log }: Pick<AdvanceDeps, 'now' | 'log'>,
  update: UpdateId & Pick<Update, 'infoHash' | 'sha256'>,
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
