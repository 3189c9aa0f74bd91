import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../../errors.ts';
import type { TransmissionClient } from './client.ts';
import { isOurAnnounceUrl, type Peer, serveOneAnnounce } from './tracker.ts';

const pollMs = 250;

/**
 * A handshake takes two of Transmission's 500 ms pulses before a peer's pieces are known, and a rechoke
 * before that is in vain: so kick often until the first piece is here, then now and then. A seed cannot
 * see when that is, only that somebody has come.
 */
const rechokeEveryMs = { early: 500, later: 2000 };
const seedHurriesMs = 3000;

/** Transmission announces within about 1 s of being given a tracker. */
const announceTimeoutMs = 5000;
const announceAgainAfterMs = 6000;

/**
 * A seed waits for others to call. It holds the torrent before they do, and a peer that it calls too
 * early is put off for 15 min (getReconnectIntervalSecs in peer-mgr.c); each of them calls when it adds
 * the torrent. But where nobody can reach the seed it has to call, and by then they are ready.
 */
const seedAnnouncesAfterMs = 4000;

/**
 * A daemon closes a connection from an address that is shaking hands with it already, and is then put off
 * for 10 s or more (tr_peerMgrAddIncoming in peer-mgr.c): torrents call the same peers one after another.
 */
const callsEveryMs = 750;

/** How long a seed gives its attention to those who have just been told. */
const seedStaysMs = 15_000;

const maxRemovals = 5;

/** Lets one after another go on, each some time after the one before. */
export type AnnounceLimiter = () => Promise<void>;

/** The turns of all torrents that are fed by one process. */
export function announceLimiter(): AnnounceLimiter {
  let next = Promise.resolve();
  return () => {
    const mine = next;
    // Nobody is kept waiting for the turns that are left.
    next = mine.then(() => sleep(callsEveryMs, undefined, { ref: false }));
    return mine;
  };
}

/**
 * Helps a torrent that Transmission holds and has running to complete soon: names the fleet's peers to it,
 * and kicks while it has peers. Takes no lock; any number may run at once, and a killed one leaves at
 * most a tracker for {@link removeLeftOverTrackers}.
 *
 * @param options.peers asked at each announce; when it fails, the torrent is left to local discovery.
 * @param options.turn waited for before the peers are named
 * @param options.timeoutMs at most 30,000; a torrent that is complete from the start takes 15 s at most.
 * @param options.log told what did not work; none of it is fatal.
 * @returns 'complete', 'incomplete' when the time is over, or 'missing' when Transmission has no such
 *   torrent (any more).
 * @throws UpdateError of the RPC.
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

      const now = Date.now();
      const endsAt = startedAt + Math.min(options.timeoutMs, isComplete ? seedStaysMs : 30_000);
      if (now >= endsAt) return isComplete ? 'complete' : 'incomplete';

      const isAnnounced =
        now < announceAt || (isComplete && now < startedAt + seedAnnouncesAfterMs);
      if (
        peersConnected === 0 &&
        !isAnnounced &&
        (status === 'downloading' || status === 'seeding')
      ) {
        // Not again while this one waits for its turn.
        announceAt = Infinity;
        void options.turn().then(() => {
          announceAt = Date.now() + announceAgainAfterMs;
          const timeoutMs = Math.min(announceTimeoutMs, endsAt - Date.now());
          if (timeoutMs > 0) announce = announceOnce({ ...options, timeoutMs });
        });
      }
      if (peersConnected > peersBefore || (peersConnected > 0 && now >= rechokeAt)) {
        await forceRechoke(transmission);
        if (peersConnected > peersBefore) peersSince = now;
        const isEarly = isComplete ? now - peersSince < seedHurriesMs : percentDone === 0;
        rechokeAt = now + (isEarly ? rechokeEveryMs.early : rechokeEveryMs.later);
      }
      peersBefore = peersConnected;
      await sleep(pollMs);
    }
  } finally {
    await announce;
  }
}

/** Lets the torrent announce to us once; never throws. */
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
 * Removes the trackers that are meant, however many other runs of ours do the same: a tracker's id is its
 * position (getannounce in metainfo.c), so theirs may shift ours, or have removed it already, which
 * Transmission refuses as an invalid argument.
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

/** Removes, from every torrent, trackers of ours that nobody answers for any more. */
export async function removeLeftOverTrackers(transmission: TransmissionClient): Promise<void> {
  for (const { infoHash, trackers } of await transmission.list()) {
    const dead = new Set<string>();
    for (const { announce } of trackers) {
      // Another run of ours may be feeding this torrent right now.
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
 * A torrent of one byte that nobody has. Private (BEP 27), so that neither DHT, PEX nor local discovery
 * tells of it: it finds no peer, never completes, and never touches the disk.
 */
const info = Buffer.concat([
  Buffer.from('d6:lengthi1e4:name15:p2p-update-kick12:piece lengthi16384e6:pieces20:'),
  Buffer.alloc(20),
  Buffer.from('7:privatei1ee'),
]);

const metainfo = Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);

/** The dummy torrent that stays in Transmission's list, paused; the same on every node. */
export const rechokeInfoHash = createHash('sha1').update(info).digest('hex');

/** Puts the dummy torrent in place; does nothing when it is there. */
export async function prepareRechoke(
  transmission: TransmissionClient,
  downloadDir: string,
): Promise<void> {
  await transmission.add({ metainfo, downloadDir, paused: true });
}

/**
 * Makes the daemon decide at once whom to unchoke and in whom to be interested. It does so every 10 s,
 * and whenever any torrent starts (tr_peerMgrStartTorrent calls rechokePulse), for all torrents. Killed
 * half-way it leaves the dummy running, which the next kick puts right.
 */
export async function forceRechoke(transmission: TransmissionClient): Promise<void> {
  await transmission.start(rechokeInfoHash);
  await transmission.stop(rechokeInfoHash);
}
