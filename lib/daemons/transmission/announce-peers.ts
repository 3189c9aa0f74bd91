import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { bencode } from '../../announcement/bencode.ts';
import { wrapInfo } from '../../announcement/metainfo.ts';
import { describeError } from '../../errors.ts';
import type { TransmissionClient } from './client.ts';
import { isOurAnnounceUrl, type Peer, serveOneAnnounce } from './tracker.ts';

const pollMs = 250;

/**
 * Period of forced rechokes: short until the first piece is here, since a handshake takes two of
 * Transmission's 500 ms pulses before a peer's pieces are known, and a rechoke before that is in vain.
 */
const rechokeEveryMs = { early: 500, later: 2000 };

/** The early period of a seed, after a peer has connected: it cannot see when that peer has a piece. */
const seedHurriesMs = 3000;

/** Transmission announces within about 1 s of getting a tracker. */
const announceTimeoutMs = 5000;
const announceAgainAfterMs = 6000;

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

/** Time that a seed spends on helping peers that have just heard of the update. */
const seedStaysMs = 15_000;

const maxRemovals = 5;

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

/**
 * Helps a torrent that Transmission has running to complete soon: announces the fleet's peers to it, and
 * forces rechokes while it has peers. Takes no lock; any number may run at once, and a killed one leaves
 * at most a tracker for {@link removeLeftOverTrackers}.
 *
 * @param options.peers called at each announce; when it fails, the torrent is left to local discovery
 *   (BEP 14)
 * @param options.turn awaited before each announce
 * @param options.timeoutMs at most 30,000; a torrent that is complete from the start takes 15 s at most
 * @param options.log called with failures, none of which is fatal
 * @returns 'complete', 'incomplete' when the time is over, or 'missing' when Transmission has no such
 *   torrent (any more)
 * @throws UpdateError of the RPC
 */
export async function announcePeers(options: {
  transmission: TransmissionClient;
  infoHash: string;
  peers: () => Promise<Peer[]>;
  turn: AnnounceLimiter;
  timeoutMs: number;
  log: (message: string) => void;
}): Promise<'complete' | 'incomplete' | 'missing'> {
  const { transmission, infoHash } = options;
  const startedAt = Date.now();
  const first = await transmission.get(infoHash);
  if (first === undefined) return 'missing';
  await prepareRechoke(transmission, first.downloadDir);

  let announce = Promise.resolve();
  let announceAt = startedAt;
  let rechokeAt = startedAt;
  let peersBefore = 0;
  let peersSince = 0;
  let wasDownloading = false;
  try {
    for (;;) {
      const torrent = await transmission.get(infoHash);
      if (torrent === undefined) return 'missing';
      const { percentDone, peersConnected, status } = torrent;
      const isComplete = percentDone === 1;
      if (isComplete && wasDownloading) return 'complete';
      wasDownloading ||= status === 'downloading' && !isComplete;

      const nowMs = Date.now();
      const endsAt = startedAt + Math.min(options.timeoutMs, isComplete ? seedStaysMs : 30_000);
      if (nowMs >= endsAt) return isComplete ? 'complete' : 'incomplete';

      const isAnnounced =
        nowMs < announceAt || (isComplete && nowMs < startedAt + seedAnnouncesAfterMs);
      if (
        peersConnected === 0 &&
        !isAnnounced &&
        (status === 'downloading' || status === 'seeding')
      ) {
        // No second announce while this one waits for its turn.
        announceAt = Infinity;
        void options.turn().then(() => {
          announceAt = Date.now() + announceAgainAfterMs;
          const timeoutMs = Math.min(announceTimeoutMs, endsAt - Date.now());
          if (timeoutMs > 0) announce = announceOnce({ ...options, timeoutMs });
        });
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
    await announce;
  }
}

/** Serves one announce of the torrent; never throws. */
async function announceOnce(options: Parameters<typeof announcePeers>[0]): Promise<void> {
  const { transmission, infoHash, log } = options;
  try {
    let given: string | undefined;
    const answered = await serveOneAnnounce({
      ...options,
      async use(announceUrl) {
        given = announceUrl;
        await transmission.addTracker(infoHash, announceUrl);
      },
    }).finally(() => removeTrackers(transmission, infoHash, (announce) => announce === given));
    if (!answered) log(`Transmission did not ask for peers of ${infoHash}`);
  } catch (error) {
    log(`cannot name peers of ${infoHash}: ${describeError(error)}`);
  }
}

/**
 * Removes the trackers for which `isMeant` holds, while other processes of ours may do the same: a
 * tracker's id is its position (getannounce in metainfo.c), so they may shift it, or have removed it
 * already, which Transmission refuses as an invalid argument.
 */
async function removeTrackers(
  transmission: TransmissionClient,
  infoHash: string,
  isMeant: (announce: string) => boolean,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const torrent = await transmission.get(infoHash);
    const meant = (torrent?.trackers ?? []).filter(({ announce }) => isMeant(announce));
    if (meant.length === 0) return;
    try {
      await transmission.removeTrackers(
        infoHash,
        meant.map(({ id }) => id),
      );
    } catch (error) {
      if (attempt >= maxRemovals) throw error;
    }
  }
}

/** Removes, from every torrent, the trackers of ours that no process serves any more. */
export async function removeLeftOverTrackers(transmission: TransmissionClient): Promise<void> {
  for (const { infoHash, trackers } of await transmission.list()) {
    const dead = new Set<string>();
    for (const { announce } of trackers) {
      // Another process of ours may be announcing peers to this torrent right now.
      if (isOurAnnounceUrl(announce) && !(await isListening(announce))) dead.add(announce);
    }
    if (dead.size > 0) await removeTrackers(transmission, infoHash, (url) => dead.has(url));
  }
}

function isListening(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), timeout: 1000 });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('connect', () => {
      settle(true);
    });
    socket.on('timeout', () => {
      settle(false);
    });
    socket.on('error', () => {
      settle(false);
    });
  });
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
