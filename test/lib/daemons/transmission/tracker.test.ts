import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  isOurAnnounceUrl,
  peersFromMembers,
  serveOneAnnounce,
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

function answering(options: {
  use: (url: string) => Promise<void>;
  peers?: Peer[];
  timeoutMs?: number;
}): Promise<boolean> {
  const { use, peers = [{ address: '192.0.2.2', port: 51413 }], timeoutMs = 10_000 } = options;
  return serveOneAnnounce({ infoHash, peers: () => Promise.resolve(peers), timeoutMs, use });
}

const bytes = (...values: number[]): string => String.fromCharCode(...values);

describe('serveOneAnnounce', () => {
  it('replies with the peers in compact form, and then stops listening', async () => {
    let url = '';
    const answered = await answering({
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
          `d8:intervali86400e12:min intervali86400e5:peers12:${peers4}6:peers636:${peers6}e`,
        );
      },
    });
    expect(answered).toBe(true);
    expect(isOurAnnounceUrl(url)).toBe(true);
    await expect(ask(url + query)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('replies with a random 80 of many peers', async () => {
    const peers = Array.from({ length: 300 }, (_, i) => ({
      address: `10.0.${i >> 8}.${i & 255}`,
      port: 51413,
    }));
    const bodies: string[] = [];
    const use = async (url: string) => void bodies.push((await ask(url + query)).body);
    await answering({ peers, use });
    await answering({ peers, use });
    const lists = bodies.map((body) => /5:peers480:(.{480})6:peers60:e$/s.exec(body)?.[1]);
    expect(lists[0]).toBeDefined();
    expect(lists[1]).toBeDefined();
    expect(lists[0]).not.toBe(lists[1]);
  });

  it('reads an info hash of plain and percent-encoded bytes', async () => {
    const answered = await answering({
      async use(url) {
        const plain = `?info_hash=%00%FF~%25${'%ab'.repeat(16)}`;
        expect(await ask(url + plain)).toMatchObject({ status: 200 });
      },
    });
    expect(answered).toBe(true);
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
    const answered = await answering({
      async use(url) {
        const target = new URL(change(url), url).href;
        expect(await ask(target, method)).toEqual({ status: 404, body: '' });
        expect(await ask(url + query)).toMatchObject({ status: 200 });
      },
    });
    expect(answered).toBe(true);
  });

  it('replies in spite of rubbish, half requests and connections that are held open', async () => {
    const answered = await answering({
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
    expect(answered).toBe(true);
  });

  it('leaves no connection open', async () => {
    const held: Promise<unknown>[] = [];
    await answering({
      async use(url) {
        held.push(once(await leaveOpen(url, 'GET '), 'close'));
        await ask(url + query);
      },
    });
    await Promise.all(held);
  });

  it('gives up when no request comes in time', async () => {
    let url = '';
    const use = (announceUrl: string) => {
      url = announceUrl;
      return Promise.resolve();
    };
    expect(await answering({ use, timeoutMs: 50 })).toBe(false);
    await expect(ask(url + query)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('gives up when only wrong requests come, however often', async () => {
    const use = async (url: string) => {
      await Promise.all(Array.from({ length: 20 }, () => ask(url)));
    };
    expect(await answering({ use, timeoutMs: 300 })).toBe(false);
  });

  it('fails, and stops listening, when the URL cannot be given to the torrent', async () => {
    let url = '';
    const use = (announceUrl: string) => {
      url = announceUrl;
      return Promise.reject(new Error('daemon down'));
    };
    await expect(answering({ use })).rejects.toThrow('daemon down');
    await expect(ask(url + query)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('fails, and stops listening, when the peers are not known', async () => {
    let url = '';
    const answer = serveOneAnnounce({
      infoHash,
      peers: () => Promise.reject(new Error('agent down')),
      timeoutMs: 10_000,
      async use(announceUrl) {
        url = announceUrl;
        await ask(url + query).catch(() => undefined);
      },
    });
    await expect(answer).rejects.toThrow('agent down');
    await expect(ask(url + query)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
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
