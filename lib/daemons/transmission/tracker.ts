import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
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

/**
 * BEP 48 derives a scrape address from a last path segment `announce`, and only from that: the token is
 * last, so that Transmission does not scrape us.
 */
const announceUrlPattern = /^http:\/\/127\.0\.0\.1:\d{1,5}\/announce\/[0-9a-f]{32}$/;

/** The alive members but this node as peers; the port of each is its tag `bt`, else 51413. */
export function peersFromMembers(members: readonly Member[], selfName: string): Peer[] {
  return members
    .filter((member) => member.status === 'alive' && member.name !== selfName)
    .map(({ address, tags }) => ({ address, port: parsePort(tags['bt']) ?? defaultPeerPort }));
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined || !/^[1-9]\d{0,4}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** True for an address that {@link serveOneAnnounce} gave out, in this process or an earlier one. */
export function isOurAnnounceUrl(url: string): boolean {
  return announceUrlPattern.test(url);
}

/**
 * Serves one tracker announce (BEP 3) of the local Transmission for one torrent, then stops listening.
 *
 * Listens on a free port of 127.0.0.1 and hands its URL to `use`, which gives it to the torrent. Only a
 * request with the URL's random token and the torrent's info hash counts; any other gets a 404 and
 * changes nothing, and a connection that sends no complete request is dropped unanswered, after 5 s.
 *
 * @param options.peers called when the announce comes; a random 80 of its peers go to Transmission
 * @param options.timeoutMs to wait for the announce, at most 30,000
 * @returns whether the announce came in time
 * @throws the errors of `use` and `peers`
 */
export async function serveOneAnnounce(options: {
  infoHash: string;
  peers: () => Promise<Peer[]>;
  timeoutMs: number;
  use: (announceUrl: string) => Promise<void>;
}): Promise<boolean> {
  const { infoHash, peers, timeoutMs, use } = options;
  const path = `/announce/${randomBytes(16).toString('hex')}`;
  const server = createServer({
    headersTimeout: 5000,
    requestTimeout: 5000,
    connectionsCheckingInterval: 1000,
    requireHostHeader: false,
  });
  let timer: NodeJS.Timeout | undefined;

  const answered = new Promise<boolean>((resolve, reject) => {
    timer = setTimeout(resolve, Math.min(timeoutMs, 30_000), false);
    server.on('error', reject);
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
      response.on('finish', () => {
        resolve(true);
      });
      peers().then((list) => response.end(announceReply(list)), reject);
    };
    // The last two are for requests with `Expect`, which Node would answer 100 or 417.
    for (const kind of ['request', 'checkContinue', 'checkExpectation']) server.on(kind, answer);
  });

  try {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const [wasAnswered] = await Promise.all([answered, use(`http://127.0.0.1:${port}${path}`)]);
    return wasAnswered;
  } finally {
    clearTimeout(timer);
    server.close();
    server.closeAllConnections();
  }
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
 * (getSeedProbability in announcer.c). The interval is a day, for a tracker that is left over.
 */
function announceReply(peers: readonly Peer[]): Buffer {
  const chosen = peers.length > maxPeers ? shuffle(peers).slice(0, maxPeers) : peers;
  const compact = (isFamily: (address: string) => boolean, bytes: (address: string) => number[]) =>
    Buffer.from(
      chosen
        .filter(({ address }) => isFamily(address))
        .flatMap(({ address, port }) => [...bytes(address), port >> 8, port & 0xff]),
    );
  return bencode({
    interval: 86_400,
    'min interval': 86_400,
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

function shuffle<T>(list: readonly T[]): T[] {
  return list
    .map((value) => ({ value, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ value }) => value);
}
