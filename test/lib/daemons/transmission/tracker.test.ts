import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  type AnnounceEvent,
  type AnnounceServer,
  isOurAnnounceUrl,
  isServed,
  peersFromMembers,
  serveAnnounces,
  type Peer,
} from '../../../../lib/daemons/transmission/tracker.ts';
import type { Member } from '../../../../lib/daemons/serf/members.ts';

const infoHash = '00ff7e25' + 'ab'.repeat(16);
const encoded = infoHash.replace(/../g, '%$&');

const member = (change: Partial<Member> = {}): Member => ({
  name: 'n2',
  address: '192.0.2.2',
  port: 7946,
  status: 'alive',
  tags: {},
  ...change,
});

describe('peersFromMembers', () => {
  it('returns the alive members but this node', () => {
    const members = [
      member({ name: 'n1', address: '192.0.2.1' }),
      member(),
      member({ name: 'n3', status: 'failed' }),
      member({ name: 'n4', status: 'left' }),
      member({ name: 'n5', status: 'leaving' }),
      member({ name: 'n6', address: '2001:db8::6' }),
    ];
    expect(peersFromMembers(members, 'n1')).toEqual([
      { address: '192.0.2.2', port: 51413 },
      { address: '2001:db8::6', port: 51413 },
    ]);
  });

  it.each([
    ['6881', 6881],
    ['65535', 65535],
    ['65536', 51413],
    ['0', 51413],
    ['-1', 51413],
    ['', 51413],
    ['1e3', 51413],
    ['51413 ', 51413],
  ])('takes the port from the tag bt, if it is one: %j', (bt, port) => {
    expect(peersFromMembers([member({ tags: { bt } })], 'n1')).toMatchObject([{ port }]);
  });
});

interface Reply {
  status: number;
  body: string;
}

/** One request; the body is read as bytes, one character each. */
function ask(url: string, method = 'GET'): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent: false }, (response) => {
      let body = '';
      response.setEncoding('latin1');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body });
      });
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** Opens a connection, sends some bytes, and leaves it open. */
async function leaveOpen(url: string, bytes: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  socket.write(bytes);
  return socket;
}

const query = `?info_hash=${encoded}&peer_id=-TR3000-abcdefghijkl&port=51413&event=started`;

/** Serves until `use` has ended; returns the events of the announces. */
async function serving(options: {
  use: (url: string) => Promise<void>;
  peers?: Peer[];
  url?: string;
}): Promise<AnnounceEvent[]> {
  const { use, peers = [{ address: '192.0.2.2', port: 51413 }], ...rest } = options;
  const events: AnnounceEvent[] = [];
  const server = await serveAnnounces({
    infoHash,
    ...rest,
    reply: (event) => {
      events.push(event);
      return Promise.resolve({ peers, againAfterSeconds: 6 });
    },
    log: () => undefined,
  });
  await use(server.url).finally(() => server.close());
  return events;
}

/** Serves, and never knows the peers; `asked` resolves with the first announce. */
async function servingSilently(): Promise<AnnounceServer & { asked: Promise<void> }> {
  let isAsked: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => (isAsked = resolve));
  const server = await serveAnnounces({
    infoHash,
    reply: () => {
      isAsked();
      return new Promise(() => undefined);
    },
    log: () => undefined,
  });
  return { ...server, asked };
}

const refused = { code: 'ECONNREFUSED' };

const bytes = (...values: number[]): string => String.fromCharCode(...values);

describe('serveAnnounces', () => {
  it('replies with the peers in compact form, and stops listening when it is closed', async () => {
    let url = '';
    const events = await serving({
      peers: [
        { address: '192.0.2.2', port: 51413 },
        { address: '2001:db8::6', port: 6881 },
        { address: '10.0.0.255', port: 1 },
        { address: '::', port: 2 },
        { address: 'fe80::1%eth0', port: 3 },
      ],
      async use(announceUrl) {
        url = announceUrl;
        const { status, body } = await ask(url + query);
        expect(status).toBe(200);
        const peers4 = bytes(192, 0, 2, 2, 200, 213, 10, 0, 0, 255, 0, 1);
        const six = bytes(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 26, 225);
        const peers6 = six + bytes(...Array<number>(16).fill(0), 0, 2);
        expect(body).toBe(
          `d8:intervali6e12:min intervali6e5:peers12:${peers4}6:peers636:${peers6}e`,
        );
      },
    });
    expect(events).toEqual(['started']);
    expect(isOurAnnounceUrl(url)).toBe(true);
    await expect(ask(url + query)).rejects.toMatchObject(refused);
  });

  it('replies with a random 80 of many peers', async () => {
    const peers = Array.from({ length: 300 }, (_, i) => ({
      address: `10.0.${i >> 8}.${i & 255}`,
      port: 51413,
    }));
    const bodies: string[] = [];
    const use = async (url: string) => void bodies.push((await ask(url + query)).body);
    await serving({ peers, use });
    await serving({ peers, use });
    const lists = bodies.map((body) => /5:peers480:(.{480})6:peers60:e$/s.exec(body)?.[1]);
    expect(lists[0]).toBeDefined();
    expect(lists[1]).toBeDefined();
    expect(lists[0]).not.toBe(lists[1]);
  });

  it('reads an info hash of plain and percent-encoded bytes', async () => {
    const events = await serving({
      async use(url) {
        const plain = `?info_hash=%00%FF~%25${'%ab'.repeat(16)}`;
        expect(await ask(url + plain)).toMatchObject({ status: 200 });
      },
    });
    expect(events).toEqual(['none']);
  });

  it('replies to every announce, and tells its event', async () => {
    const events = ['started', 'completed', 'paused', 'stopped'];
    const use = async (url: string) => {
      for (const event of events)
        expect(await ask(url + query.replace('started', event))).toMatchObject({ status: 200 });
    };
    expect(await serving({ use })).toEqual(['started', 'completed', 'none', 'stopped']);
  });

  const otherHash = query.replace('%00', '%01');
  it.each<[string, string, (url: string) => string]>([
    ['another path', 'GET', () => `/${query}`],
    [
      'another token',
      'GET',
      (url) => url.replace(/.$/, (last) => (last === '0' ? '1' : '0')) + query,
    ],
    ['no token', 'GET', (url) => url.replace(/[0-9a-f]{32}$/, '') + query],
    ['no info hash', 'GET', (url) => url],
    ['another info hash', 'GET', (url) => url + otherHash],
    ['a shorter info hash', 'GET', (url) => `${url}?info_hash=%00%ff`],
    ['POST', 'POST', (url) => url + query],
  ])('refuses %s, and replies to the right request afterwards', async (_, method, change) => {
    const events = await serving({
      async use(url) {
        const target = new URL(change(url), url).href;
        expect(await ask(target, method)).toEqual({ status: 404, body: '' });
        expect(await ask(url + query)).toMatchObject({ status: 200 });
      },
    });
    expect(events).toEqual(['started']);
  });

  it('replies in spite of rubbish, half requests and connections that are held open', async () => {
    const events = await serving({
      async use(url) {
        const { pathname } = new URL(url);
        const rubbish = [
          '',
          '\0\0\0',
          'GET ',
          `GET ${pathname}${query}`,
          '\x13BitTorrent protocol',
        ];
        const long = `GET /${'a'.repeat(100_000)} HTTP/1.1\r\n\r\n`;
        await Promise.all([...rubbish, long].map((text) => leaveOpen(url, text)));
        await Promise.all(Array.from({ length: 200 }, () => leaveOpen(url, '')));
        expect(await ask(url + query)).toMatchObject({ status: 200 });
      },
    });
    expect(events).toEqual(['started']);
  });

  it('leaves no connection open', async () => {
    const held: Promise<unknown>[] = [];
    await serving({
      async use(url) {
        held.push(once(await leaveOpen(url, 'GET '), 'close'));
        await ask(url + query);
      },
    });
    await Promise.all(held);
  });

  it('stops listening when the URL cannot be given to the torrent', async () => {
    let url = '';
    const use = (announceUrl: string) => {
      url = announceUrl;
      return Promise.reject(new Error('daemon down'));
    };
    await expect(serving({ use })).rejects.toThrow('daemon down');
    await expect(ask(url + query)).rejects.toMatchObject(refused);
  });

  const nobody = 'd8:intervali1073741824e12:min intervali1073741824e5:peers0:6:peers60:e';

  it('replies without peers, and tells why, when the peers are not known', async () => {
    const told: unknown[] = [];
    const { url, close } = await serveAnnounces({
      infoHash,
      reply: () => Promise.reject(new Error('agent down')),
      log: (error) => told.push(error),
    });
    expect(await ask(url + query)).toEqual({ status: 200, body: nobody });
    await close();
    expect(told).toEqual([new Error('agent down')]);
  });

  it('replies without peers when it is closed before they are known', async () => {
    const { url, close, asked } = await servingSilently();
    const reply = ask(url + query);
    await asked;
    await close();
    expect(await reply).toEqual({ status: 200, body: nobody });
  });

  it('is closed although the asker is gone before the peers are known', async () => {
    const { url, close, asked } = await servingSilently();
    const socket = await leaveOpen(url, `GET ${new URL(url).pathname}${query} HTTP/1.1\r\n\r\n`);
    await asked;
    socket.resetAndDestroy();
    await close();
  });

  it('serves an earlier URL again, and fails while another socket has its port', async () => {
    let url = '';
    const use = async (announceUrl: string) => {
      url = announceUrl;
      expect(await ask(url + query)).toMatchObject({ status: 200 });
    };
    await serving({ use });
    const first = url;
    expect(await serving({ use, url: first })).toEqual(['started']);
    expect(url).toBe(first);
    await serving({
      url: first,
      use: () => expect(serving({ use, url: first })).rejects.toMatchObject({ code: 'EADDRINUSE' }),
    });
  });
});

describe('isServed', () => {
  it('tells a server of ours from none, and from a stranger at the same port', async () => {
    let url = '';
    await serving({
      async use(served) {
        url = served;
        expect(await isServed(url, infoHash)).toBe(true);
        expect(await isServed(url.replace(/.{4}$/, '0000'), infoHash)).toBe(false);
      },
    });
    expect(await isServed(url, infoHash)).toBe(false);
    const silent = createServer().listen(Number(new URL(url).port), '127.0.0.1');
    await once(silent, 'listening');
    expect(await isServed(url, infoHash, 200)).toBe(false);
    silent.close();
  });
});

describe('isOurAnnounceUrl', () => {
  const token = '0123456789abcdef0123456789abcdef';
  it.each([
    [`http://127.0.0.1:40000/announce/${token}`, true],
    [`http://127.0.0.1:40000/announce/${token}0`, false],
    [`http://127.0.0.2:40000/announce/${token}`, false],
    [`https://127.0.0.1:40000/announce/${token}`, false],
    [`http://127.0.0.1:40000/announce`, false],
    ['udp://tracker.example.org:6969', false],
  ])('judges %s: %s', (url, expected) => {
    expect(isOurAnnounceUrl(url)).toBe(expected);
  });
});
