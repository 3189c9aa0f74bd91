import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isIPv4, isIPv6 } from 'node:net';
import { bencode } from '../../announcement/bencode.ts';
import type { Member } from '../serf/members.ts';

export interface Peer {
  /** IPv4 or IPv6, without brackets. */
  address: string;
  /** Transmission's peer port. */
  port: number;
}

const defaultPeerPort = 51413;

/** The number that Transmission asks a tracker for (NUMWANT in announcer.c); of more, a random choice. */
const maxPeers = 80;

/** Interval in seconds that outlives every daemon; Transmission keeps it in 32 bits, and has no upper limit. */
const neverSeconds = 2 ** 30;

/**
 * BEP 48 derives a scrape address from a last path segment `announce`, and only from that: the token is
 * last, so that Transmission does not scrape us.
 */
const announceUrlPattern = /^http:\/\/127\.0\.0\.1:\d{1,5}\/announce\/[0-9a-f]{32}$/;

/** The address of a member's Transmission: the port is its tag `bt`, else 51413. */
export function peerOf({ address, tags }: Pick<Member, 'address' | 'tags'>): Peer {
  return { address, port: parsePort(tags['bt']) ?? defaultPeerPort };
}

/** The alive members but this node as peers; the port of each is its tag `bt`, else 51413. */
export function peersFromMembers(members: readonly Member[], selfName: string): Peer[] {
  return members
    .filter((member) => member.status === 'alive' && member.name !== selfName)
    .map(peerOf);
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined || !/^[1-9]\d{0,4}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** True for an address that {@link serveAnnounces} gave out, in this process or an earlier one. */
export function isOurAnnounceUrl(url: string): boolean {
  return announceUrlPattern.test(url);
}

/** Reason of an announce (BEP 3); 'none' for one that is only due. */
export type AnnounceEvent = 'started' | 'stopped' | 'completed' | 'none';

export interface AnnounceReply {
  /** A random 80 of them go to Transmission. */
  peers: readonly Peer[];
  /** Time until Transmission announces again by itself; null: never, as long as it runs. */
  againAfterSeconds: number | null;
}

export interface AnnounceServer {
  /** Announce URL for the torrent, with a random token. */
  url: string;
  /** Stops listening. An announce that still waits for its reply gets one without peers. */
  close: () => Promise<void>;
}

/** Reply without peers that keeps Transmission from asking a port on which nobody listens any more. */
export const lastReply: AnnounceReply = { peers: [], againAfterSeconds: null };

/** Longest life of a server. */
const maxServeMs = 30_000;

/**
 * Serves the announces (BEP 3) of the local Transmission for one torrent, on 127.0.0.1, for 30 s at most.
 *
 * Only a request with the URL's random token and the torrent's info hash counts; any other gets a 404 and
 * changes nothing, and a connection that sends no complete request is dropped unanswered, after 5 s.
 *
 * @param options.url of an earlier server, to listen there again; else a free port and a new token
 * @param options.reply called for each announce; when it fails, Transmission gets no peers
 * @param options.log receives the failures of `reply`
 * @throws the system's error `EADDRINUSE` when another socket has the port of `options.url`
 */
export async function serveAnnounces(options: {
  infoHash: string;
  url?: string;
  reply: (event: AnnounceEvent) => Promise<AnnounceReply>;
  log: (error: unknown) => void;
}): Promise<AnnounceServer> {
  const { infoHash, reply, log } = options;
  const earlier = options.url === undefined ? undefined : new URL(options.url);
  const path = earlier?.pathname ?? `/announce/${randomBytes(16).toString('hex')}`;
  const server = createServer({
    headersTimeout: 5000,
    requestTimeout: 5000,
    connectionsCheckingInterval: 1000,
    requireHostHeader: false,
  });
  const waiting = new Set<() => Promise<void>>();
  // Node's own answers (400, 408, 431) would show a prober what listens here.
  server.on('clientError', (_, socket) => {
    socket.destroy();
  });
  const answer: RequestListener = (request, response) => {
    response.setHeader('connection', 'close');
    const [target = '', query = ''] = (request.url ?? '').split('?', 2);
    if (request.method !== 'GET' || target !== path || announcedInfoHash(query) !== infoHash) {
      response.writeHead(404, { 'content-length': 0 }).end();
      return;
    }
    const send = (what: AnnounceReply): Promise<void> =>
      new Promise((resolve) => {
        waiting.delete(sendLast);
        if (response.writableEnded || response.destroyed) resolve();
        else response.on('finish', resolve).on('close', resolve).end(encodeReply(what));
      });
    const sendLast = (): Promise<void> => send(lastReply);
    waiting.add(sendLast);
    reply(announcedEvent(query)).then(send, (error: unknown) => {
      log(error);
      return sendLast();
    });
  };
  // The last two are for requests with `Expect`, which Node would answer 100 or 417.
  for (const kind of ['request', 'checkContinue', 'checkExpectation']) server.on(kind, answer);

  server.listen(Number(earlier?.port ?? 0), '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    server.close();
    await Promise.all([...waiting].map((sendLast) => sendLast()));
    server.closeAllConnections();
  };
  const timer = setTimeout(() => void close(), maxServeMs);
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}${path}`, close };
}

/**
 * True when {@link serveAnnounces} serves the URL, in any process: only that knows the token.
 *
 * @param timeoutMs after which the answer is no
 */
export function isServed(url: string, infoHash: string, timeoutMs = 1000): Promise<boolean> {
  const query = `?info_hash=${infoHash.replace(/../g, '%$&')}&event=stopped`;
  return new Promise((resolve) => {
    const asked = get(url + query, { agent: false, timeout: timeoutMs }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => {
      resolve(false);
    });
  });
}

/** The event in a tracker request; one that this software does not know is taken for none. */
function announcedEvent(query: string): AnnounceEvent {
  const value = new URLSearchParams(query).get('event');
  return value === 'started' || value === 'stopped' || value === 'completed' ? value : 'none';
}

/** The info hash in a tracker request (BEP 3): 20 raw bytes, percent-encoded, so not UTF-8 text. */
function announcedInfoHash(query: string): string | undefined {
  const value = query.split('&').find((pair) => pair.startsWith('info_hash='));
  const bytes = value
    ?.slice('info_hash='.length)
    .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return bytes === undefined ? undefined : Buffer.from(bytes, 'latin1').toString('hex');
}

/**
 * The bencoded reply: compact peers of BEP 23 and BEP 7. Counts of seeders and leechers are left out,
 * or Transmission would take the peers for seeds, and a seed would not connect to them
 * (getSeedProbability in announcer.c).
 */
function encodeReply({ peers, againAfterSeconds }: AnnounceReply): Buffer {
  const chosen = peers.length > maxPeers ? shuffle(peers).slice(0, maxPeers) : peers;
  const compact = (isFamily: (address: string) => boolean, bytes: (address: string) => number[]) =>
    Buffer.from(
      chosen
        .filter(({ address }) => isFamily(address))
        .flatMap(({ address, port }) => [...bytes(address), port >> 8, port & 0xff]),
    );
  const interval = againAfterSeconds ?? neverSeconds;
  return bencode({
    interval,
    'min interval': interval,
    peers: compact(isIPv4, (address) => address.split('.').map(Number)),
    peers6: compact((address) => isIPv6(address) && !address.includes('%'), ipv6Bytes),
  });
}

function ipv6Bytes(address: string): number[] {
  // The URL parser reads every form and writes one: hex groups, the longest run of zeros as ::.
  const [left = '', right] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (part = '') =>
    part === '' ? [] : part.split(':').map((hex) => parseInt(hex, 16));
  const head = groups(left);
  const tail = groups(right);
  const zeros = Array<number>(8 - head.length - tail.length).fill(0);
  return [...head, ...zeros, ...tail].flatMap((group) => [group >> 8, group & 0xff]);
}

/** The same elements in a random order. */
export function shuffle<T>(list: readonly T[]): T[] {
  return list
    .map((value) => ({ value, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ value }) => value);
}
