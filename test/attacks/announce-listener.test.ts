import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Peer, serveAnnounces } from '../../lib/daemons/transmission/tracker.ts';

const infoHash = '00ff7e25' + 'ab'.repeat(16);
const query = `?info_hash=${infoHash.replace(/../g, '%$&')}&peer_id=-TR3000-abcdefghijkl&port=51413`;
const secretPeer: Peer = { address: '192.0.2.99', port: 51413 };

/** The listener, and the number of times that it was asked for peers. */
interface Listener {
  port: number;
  path: string;
  /** How often the peers were asked for. */
  disclosed: () => number;
}

/** Runs `probe` while the listener waits for Transmission. */
async function listening(probe: (listener: Listener) => Promise<void>): Promise<void> {
  let disclosed = 0;
  const server = await serveAnnounces({
    infoHash,
    reply: () => {
      disclosed += 1;
      return Promise.resolve({ peers: [secretPeer], againAfterSeconds: null });
    },
    log: () => undefined,
  });
  const { port, pathname } = new URL(server.url);
  const listener = { port: Number(port), path: pathname, disclosed: () => disclosed };
  await probe(listener).finally(() => server.close());
}

/** Everything that one connection is answered until it is closed, as one character for each byte. */
class Connection {
  readonly socket: Socket;
  answer = '';
  readonly closed: Promise<unknown>;

  constructor(port: number, bytes = '') {
    this.socket = connect(port, '127.0.0.1');
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => (this.answer += text));
    // A reset is a way to be closed.
    this.socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => this.socket.on('close', resolve));
    this.socket.write(bytes, 'latin1');
    onTestFinished(() => {
      this.socket.destroy();
    });
  }
}

const get = (target: string): string => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;

/** Asks as Transmission does, and gets the peers: the listener has survived. */
async function expectSurvival({ port, path }: Listener): Promise<void> {
  const genuine = new Connection(port, get(path + query));
  await genuine.closed;
  expect(genuine.answer).toMatch(/^HTTP\/1\.1 200 /);
  expect(genuine.answer).toContain(String.fromCharCode(192, 0, 2, 99, 200, 213));
}

const isRefused = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => {
      resolve(true);
    });
  });

afterEach(() => {
  vi.useRealTimers();
});

describe('the announce listener answers', () => {
  const otherToken = (path: string): string =>
    path.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
  const otherHash = query.replace('%00', '%01');

  it.each<[string, (path: string) => string]>([
    ['a wrong token', (path) => get(otherToken(path) + query)],
    ['half a token', (path) => get(path.slice(0, -16) + query)],
    ['no token', () => get(`/announce${query}`)],
    ['a wrong info hash', (path) => get(path + otherHash)],
    ['the info hash in hexadecimal', (path) => get(`${path}?info_hash=${infoHash}`)],
    [
      'two info hashes, the wrong one first',
      (path) => get(path + otherHash + query.replace('?', '&')),
    ],
    ['no info hash', (path) => get(path)],
    ['a scrape', (path) => get(path.replace('announce', 'scrape') + query)],
    ['a path that leads back', (path) => get(`/x/..${path}${query}`)],
    ['an absolute target', (path) => get(`http://127.0.0.1${path}${query}`)],
    ['HEAD', (path) => get(path + query).replace('GET', 'HEAD')],
    ['POST', (path) => get(path + query).replace('GET', 'POST')],
    ['no host', (path) => `GET ${otherToken(path)} HTTP/1.1\r\n\r\n`],
    [
      'an expectation',
      (path) => get(otherToken(path)).replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n'),
    ],
    [
      'another expectation',
      (path) => get(otherToken(path)).replace('\r\n\r\n', '\r\nExpect: peers\r\n\r\n'),
    ],
  ])('a request with %s by 404 and no peer', async (_, bytes) => {
    await listening(async (listener) => {
      const prober = new Connection(listener.port, bytes(listener.path));
      await prober.closed;
      expect(prober.answer).toMatch(/^HTTP\/1\.1 404 /);
      expect(prober.answer.split('\r\n\r\n')[1]).toBe('');
      expect(listener.disclosed()).toBe(0);
      await expectSurvival(listener);
    });
  });

  it.each<[string, string]>([
    ['bytes that are no HTTP', '\0\x01\x02\xff\xfe\r\n\r\n'],
    ['BitTorrent', '\x13BitTorrent protocol\0\0\0\0\0\0\0\0'],
    ['TLS', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'],
    ['a header without an end', `GET / HTTP/1.1\r\nX: ${'a'.repeat(100_000)}`],
    ['a target without an end', `GET /${'a'.repeat(100_000)}`],
    ['a tunnel', 'CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'],
  ])('nothing to a prober that sends %s', async (_, bytes) => {
    await listening(async (listener) => {
      const prober = new Connection(listener.port, bytes);
      await prober.closed;
      expect(prober.answer).toBe('');
      expect(listener.disclosed()).toBe(0);
      await expectSurvival(listener);
    });
  });

  it('Transmission while a prober holds 200 connections open and asks in 200 more', async () => {
    await listening(async (listener) => {
      const { port, path } = listener;
      const held = Array.from(
        { length: 200 },
        (_, i) => new Connection(port, get(path).slice(0, i)),
      );
      await Promise.all(held.map(({ socket }) => once(socket, 'connect')));
      const asking = Array.from({ length: 200 }, () => new Connection(port, get(otherToken(path))));
      await Promise.all(asking.map(({ closed }) => closed));
      expect(asking.filter(({ answer }) => !/^HTTP\/1\.1 404 /.test(answer))).toEqual([]);
      expect(listener.disclosed()).toBe(0);
      await expectSurvival(listener);
    });
  });

  it('nothing to a prober that sends a byte at a time, and drops it after some 5 s', async () => {
    await listening(async (listener) => {
      const { port, path } = listener;
      const began = performance.now();
      const slow = new Connection(port);
      const bytes = get(path + query);
      let sent = 0;
      const drip = setInterval(() => slow.socket.write(bytes[(sent += 1) - 1] ?? ''), 100);
      const silent = new Connection(port, 'GET ');
      await Promise.all([slow.closed, silent.closed]);
      clearInterval(drip);
      expect(performance.now() - began).toBeLessThan(25_000);
      expect(slow.answer + silent.answer).toBe('');
      expect(listener.disclosed()).toBe(0);
      await expectSurvival(listener);
    });
  });
});

describe('the announce listener', () => {
  it('listens on 127.0.0.1 only', async () => {
    await listening(async (listener) => {
      const hex = listener.port.toString(16).toUpperCase().padStart(4, '0');
      // proc_net_tcp(5): the second column is the local address, the fourth the state; 0A: listening.
      const listeners = ['tcp', 'tcp6'].flatMap((table) =>
        readFileSync(`/proc/net/${table}`, 'utf8')
          .split('\n')
          .map((line) => line.trim().split(/\s+/))
          .filter(([, local, , state]) => local?.endsWith(`:${hex}`) === true && state === '0A')
          .map(([, local]) => local),
      );
      expect(listeners).toEqual([`0100007F:${hex}`]);
      await expectSurvival(listener);
    });
  });

  it('ends after 30 s, with every connection that is held open', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await listening(async ({ port, disclosed }) => {
      vi.advanceTimersByTime(29_999);
      const prober = new Connection(port, get('/'));
      await prober.closed;
      expect(prober.answer).toMatch(/ 404 /);
      const held = new Connection(port, 'GET ');
      await once(held.socket, 'connect');
      vi.advanceTimersByTime(1);
      await held.closed;
      expect(held.answer).toBe('');
      expect(disclosed()).toBe(0);
      expect(await isRefused(port)).toBe(true);
    });
  });
});
