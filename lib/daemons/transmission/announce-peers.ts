import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { bencode } from '../../announcement/bencode.ts';
import { magnetUri, wrapInfo } from '../../announcement/metainfo.ts';
import { describeError, hasErrno } from '../../errors.ts';
import type { TransmissionClient } from './client.ts';
import type { Torrent } from './torrent.ts';
import {
  type AnnounceEvent,
  type AnnounceReply,
  type AnnounceServer,
  isOurAnnounceUrl,
  isServed,
  lastReply,
  type Peer,
  serveAnnounces,
} from './tracker.ts';

const pollMs = 250;
const stopPollMs = 50;
const stopMs = 5000;

/**
 * Period of forced rechokes: short until the first piece is here, since a handshake takes two of
 * Transmission's 500 ms pulses before a peer's pieces are known, and a rechoke before that is in vain.
 */
const rechokeEveryMs = { early: 500, later: 2000 };

/** The early period of a seed, after a peer has connected: it cannot see when that peer has a piece. */
const seedHurriesMs = 3000;

/** Period of announces while a torrent has no peer: members may have joined, or learnt of the update. */
const announceEverySeconds = 6;

/**
 * Delay before a seed connects to peers. It has the torrent before they do, and a peer that does not is
 * not tried again for 15 min (getReconnectIntervalSecs in peer-mgr.c); each peer connects to the seed when
 * it adds the torrent. Where no peer can reach the seed, the seed has to connect, to peers that by then
 * have the torrent.
 */
const seedAnnouncesAfterMs = 4000;

/**
 * Interval between the announces of two torrents, which connect to the same peers: a daemon closes a
 * connection from an address that is shaking hands with it already, and is then not tried again for 10 s
 * or more (tr_peerMgrAddIncoming in peer-mgr.c).
 */
const announceIntervalMs = 750;

/**
 * Time in which a peer that has metadata has sent it. The daemon asks for it every 3 s, and always the same
 * peer, the first by address (3.00) or by connection (4.1), whether that has it or not
 * (tr_peerMsgsPulse in peer-msgs.c): behind a peer without metadata, no holder is ever asked.
 */
const metadataMs = 2000;

/** Transmission announces a completion within 1 s (UPKEEP_INTERVAL_SECS in announcer.c). */
const completionAnnouncedMs = 2000;

/**
 * Time without a byte after which a torrent that is connected to seeds gets nothing from them. The daemon
 * unchokes its peers every 10 s, and this process has it do so sooner.
 */
const starvedMs = 10_000;
/** Random further time, so that nodes which have lost the same content do not all ask at once. */
const starvedSpreadMs = 3000;

/** Time that a seed spends on helping peers that have just heard of the update. */
const seedStaysMs = 15_000;

/** Resolves when the caller may announce, some time after the caller before. */
export type AnnounceLimiter = () => Promise<void>;

/** Makes the limiter that all torrents of one process share. */
export function announceLimiter(): AnnounceLimiter {
  let next = Promise.resolve();
  return () => {
    const mine = next;
    // Unreferenced: the process must not wait for an interval that is left over.
    next = mine.then(() => sleep(announceIntervalMs, undefined, { ref: false }));
    return mine;
  };
}

/** Shared by all announces of one process. */
export interface AnnounceDeps {
  transmission: TransmissionClient;
  /** Called at each announce; when it fails, the torrent is left to local discovery (BEP 14). */
  peers: () => Promise<Peer[]>;
  /** Awaited before peers are named. */
  turn: AnnounceLimiter;
  /**
   * Called when a torrent gets nothing from the seeds that it is connected to.
   *
   * @param seeds their addresses
   */
  starved: (infoHash: string, seeds: readonly string[]) => Promise<void>;
  /** Called with failures, none of which is fatal. */
  log: (message: string) => void;
}

/**
 * Announces of one torrent while this process lives. Its URL has to be in the torrent when it is added:
 * what a tracker answers that is added later, Transmission 4 throws away (resetTorrent in announcer.cc).
 */
export class Announcer {
  /** Whether to name peers to a seed, which it is not to connect to at first. */
  isNaming = false;
  /** Addresses of the only peers to name at the next announce; undefined: all. */
  only: ReadonlySet<string> | undefined;
  /** Whether Transmission has announced. */
  isAsked = false;
  /** Whether Transmission has told that the torrent is complete. */
  hasCompleted = false;
  /** Time, by `performance.now()`, until which Transmission is to announce again and again. */
  endsAt = performance.now() + 30_000;
  #hasNamedFew = false;
  #server: AnnounceServer | undefined;
  readonly #deps: AnnounceDeps;
  readonly #infoHash: string;

  private constructor(deps: AnnounceDeps, infoHash: string) {
    this.#deps = deps;
    this.#infoHash = infoHash;
  }

  /**
   * Listens on a free port, or again on that of a torrent's announce URL.
   *
   * @returns undefined when that port is taken
   */
  static async open(
    deps: AnnounceDeps,
    infoHash: string,
    url?: string,
  ): Promise<Announcer | undefined> {
    const announcer = new Announcer(deps, infoHash);
    try {
      announcer.#server = await serveAnnounces({
        infoHash,
        ...(url === undefined ? {} : { url }),
        reply: (event) => announcer.#reply(event),
        log: (error) => {
          deps.log(`cannot name peers of ${infoHash}: ${describeError(error)}`);
        },
      });
      return announcer;
    } catch (error) {
      if (hasErrno(error, 'EADDRINUSE')) return undefined;
      throw error;
    }
  }

  get url(): string {
    return this.#server?.url ?? '';
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  async #reply(event: AnnounceEvent): Promise<AnnounceReply> {
    const { transmission, peers, turn } = this.#deps;
    this.isAsked = true;
    this.hasCompleted ||= event === 'completed';
    if (event === 'completed' || event === 'stopped') return lastReply;
    const torrent = await transmission.get(this.#infoHash);
    if (torrent === undefined || (torrent.percentDone === 1 && !this.isNaming)) return lastReply;
    const isLast =
      torrent.percentDone === 1 ||
      performance.now() + (announceEverySeconds + 1) * 1000 > this.endsAt;
    const againAfterSeconds = isLast ? null : announceEverySeconds;
    const { only } = this;
    this.only = undefined;
    if (only !== undefined) {
      const holders = (await peers()).filter(({ address }) => only.has(address));
      this.#hasNamedFew = true;
      return { peers: holders, againAfterSeconds: metadataMs / 1000 };
    }
    if (torrent.peersConnected > 0 && !this.#hasNamedFew) return { peers: [], againAfterSeconds };
    this.#hasNamedFew = false;
    await turn();
    return { peers: await peers(), againAfterSeconds };
  }
}

/**
 * How it ended: 'incomplete' when the time was over, 'missing' when Transmission has no such torrent (any
 * more), 'unannounced' when it is incomplete, without a peer, and has no URL that can be served: then it
 * has to be added again.
 */
export type AnnounceOutcome = 'complete' | 'incomplete' | 'missing' | 'unannounced';

/**
 * Helps a torrent that Transmission has running to complete soon: announces the fleet's peers to it, forces
 * rechokes while it has peers, and tells when it starves. Takes no lock; any number may run at once, and a killed one leaves
 * an announce URL that nobody serves, for the next one to serve again.
 *
 * @param options.announcer whose URL the torrent was added with a moment ago; without one, the torrent's
 *   own URL is served again, and the torrent stopped and started, for which Transmission announces at once
 * @param options.timeoutMs at most 30,000; a torrent that is complete from the start takes 15 s at most
 * @throws UpdateError of the RPC
 */
export async function announcePeers(
  options: AnnounceDeps & { infoHash: string; timeoutMs: number; announcer?: Announcer },
): Promise<AnnounceOutcome> {
  const { transmission, infoHash } = options;
  let { announcer } = options;
  const startedAt = performance.now();
  let isAnnounced = false;
  let rechokeAt = startedAt;
  let peersBefore = 0;
  let peersSince = 0;
  let hiddenSince = startedAt;
  let wasDownloading = false;
  let doneBefore = -1;
  let gotAt = startedAt;
  const patienceMs = starvedMs + Math.random() * starvedSpreadMs;
  try {
    const first = await transmission.get(infoHash);
    if (first === undefined) return 'missing';
    await prepareRechoke(transmission, first.downloadDir);
    for (;;) {
      const torrent = await transmission.get(infoHash);
      if (torrent === undefined) return 'missing';
      const { percentDone, peersConnected, status, trackers } = torrent;
      const isComplete = percentDone === 1;
      if (isComplete && wasDownloading) {
        const deadline = performance.now() + completionAnnouncedMs;
        while (announcer?.hasCompleted === false && performance.now() < deadline)
          await sleep(pollMs);
        return 'complete';
      }
      wasDownloading ||= status === 'downloading' && !isComplete;

      const nowMs = performance.now();
      const endsAt = startedAt + Math.min(options.timeoutMs, isComplete ? seedStaysMs : 30_000);
      if (announcer !== undefined) announcer.endsAt = endsAt;
      if (nowMs >= endsAt) {
        if (announcer?.isAsked === false)
          options.log(`Transmission did not ask for peers of ${infoHash}`);
        return isComplete ? 'complete' : 'incomplete';
      }

      const isRunning = status === 'downloading' || status === 'seeding';
      const isDue = isComplete
        ? nowMs >= startedAt + seedAnnouncesAfterMs
        : announcer === undefined;
      if (!isAnnounced && isDue && isRunning && peersConnected === 0) {
        isAnnounced = true;
        const url = trackers.map(({ announce }) => announce).find(isOurAnnounceUrl);
        if (announcer === undefined && url !== undefined)
          announcer = await Announcer.open(options, infoHash, url);
        if (announcer !== undefined) {
          announcer.isNaming = true;
          await restart(transmission, infoHash);
        } else if (!isComplete && (url === undefined || !(await isServed(url, infoHash))))
          return 'unannounced';
      }
      const holders = await holdersBehindAnother(transmission, torrent);
      if (holders === 'reached') hiddenSince = nowMs;
      else if (nowMs - hiddenSince > metadataMs) {
        announcer ??= await Announcer.open(options, infoHash);
        if (announcer !== undefined) {
          announcer.only = new Set(holders);
          await addAgain(transmission, torrent, announcer.url);
        }
      }
      if (percentDone !== doneBefore || !torrent.hasMetadata || !isRunning || isComplete) {
        doneBefore = percentDone;
        gotAt = nowMs;
      } else if (nowMs - gotAt > patienceMs && peersConnected > 0) {
        gotAt = nowMs;
        const seeds = (await transmission.peersOf(infoHash)).filter(
          ({ progress }) => progress === 1,
        );
        if (seeds.length > 0)
          await options.starved(
            infoHash,
            seeds.map(({ address }) => address),
          );
      }
      if (peersConnected > peersBefore || (peersConnected > 0 && nowMs >= rechokeAt)) {
        await forceRechoke(transmission);
        if (peersConnected > peersBefore) peersSince = nowMs;
        const isEarly = isComplete ? nowMs - peersSince < seedHurriesMs : percentDone === 0;
        rechokeAt = nowMs + (isEarly ? rechokeEveryMs.early : rechokeEveryMs.later);
      }
      peersBefore = peersConnected;
      await sleep(pollMs);
    }
  } finally {
    await announcer?.close();
  }
}

/**
 * The addresses of connected peers that have content, and so metadata, when the peer that the daemon asks
 * for metadata may have none; `reached` when it has, or nobody has.
 */
async function holdersBehindAnother(
  transmission: TransmissionClient,
  { infoHash, hasMetadata, peersConnected }: Torrent,
): Promise<'reached' | string[]> {
  if (hasMetadata || peersConnected < 2) return 'reached';
  // In the order in which the daemon asks them.
  const [first, ...others] = await transmission.peersOf(infoHash);
  if (first === undefined || first.progress > 0) return 'reached';
  const holders = others.filter(({ progress }) => progress > 0).map(({ address }) => address);
  return holders.length === 0 ? 'reached' : holders;
}

/**
 * Adds a torrent without metadata again: as long as Transmission holds it, it forgets no peer of it. Killed
 * half-way this leaves no torrent, for the next pass to add.
 */
async function addAgain(
  transmission: TransmissionClient,
  { infoHash, downloadDir }: Torrent,
  announceUrl: string,
): Promise<void> {
  await transmission.remove(infoHash, { deleteData: false });
  await transmission.add({ magnet: magnetUri({ infoHash }, announceUrl), downloadDir });
}

/**
 * Stops and starts a torrent, so that it announces at once. It keeps what it knows of its data.
 * Killed half-way this leaves it stopped, until the next pass.
 */
async function restart(transmission: TransmissionClient, infoHash: string): Promise<void> {
  await transmission.stop(infoHash);
  // A start is lost on a torrent that is about to stop.
  const deadline = performance.now() + stopMs;
  while (performance.now() < deadline) {
    const torrent = await transmission.get(infoHash);
    if (torrent === undefined || torrent.status === 'stopped') break;
    await sleep(stopPollMs);
  }
  await transmission.start(infoHash);
}

/**
 * A torrent of one byte without any source. Private (BEP 27), so that neither DHT, PEX nor local discovery
 * announces it: it finds no peer, never completes, and never touches the disk.
 */
const info = bencode({
  length: 1,
  name: 'p2p-update-kick',
  'piece length': 16_384,
  pieces: Buffer.alloc(20),
  private: 1,
});

/** The dummy torrent that stays in Transmission's list, paused; the same on every node. */
export const rechokeInfoHash = createHash('sha1').update(info).digest('hex');

/** Adds the dummy torrent; does nothing when it is there. */
export async function prepareRechoke(
  transmission: TransmissionClient,
  downloadDir: string,
): Promise<void> {
  await transmission.add({ metainfo: wrapInfo(info), downloadDir, paused: true });
}

/**
 * Makes the daemon decide at once which peers of all torrents to unchoke, and in which to be interested.
 * By itself it does so every 10 s, and whenever a torrent starts (tr_peerMgrStartTorrent calls
 * rechokePulse). Killed half-way this leaves the dummy running, until the next call.
 */
export async function forceRechoke(transmission: TransmissionClient): Promise<void> {
  await transmission.start(rechokeInfoHash);
  await transmission.stop(rechokeInfoHash);
}
