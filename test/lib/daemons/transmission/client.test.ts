import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  connectTransmission,
  type TransmissionClient,
} from '../../../../lib/daemons/transmission/client.ts';
import { refusal } from '../../../support/run/refusal.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

// Behaviour that only the real daemon can show is in test/integration/transmission.test.ts.

const infoHash = 'ab'.repeat(20);
const magnet = `magnet:?xt=urn:btih:${infoHash}`;

interface Call {
  method: string;
  arguments: Record<string, unknown>;
  authorization: string | undefined;
  sessionId: string | undefined;
}
type Answer = (response: ServerResponse, call: Call) => void;

/** A server in the place of the daemon, which keeps its calls. */
async function serve(answer: Answer): Promise<{ url: string; calls: Call[] }> {
  const calls: Call[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const { authorization, 'x-transmission-session-id': id } = request.headers;
      const sessionId = typeof id === 'string' ? id : undefined;
      const call = { ...(JSON.parse(body) as Call), authorization, sessionId };
      calls.push(call);
      answer(response, call);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/transmission/rpc`, calls };
}

const status =
  (code: number): Answer =>
  (response) =>
    response.writeHead(code).end('<h1>no</h1>');

const text =
  (body: string): Answer =>
  (response) =>
    response.end(body);

const success = (args: unknown): Answer =>
  text(JSON.stringify({ result: 'success', arguments: args }));

function client(url: string, options: { file?: string; timeoutSeconds?: number } = {}) {
  const { file = null, timeoutSeconds = 5 } = options;
  return connectTransmission({ url, credentialsFile: file, timeoutSeconds });
}

function credentials(content: string, mode = 0o640): string {
  const file = join(temporaryDirectory(), 'transmission.json');
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

describe('a session id', () => {
  it('is taken from a 409, and sent from then on', async () => {
    const { url, calls } = await serve((response, call) => {
      if (call.sessionId === 'fresh') success({})(response, call);
      else response.writeHead(409, { 'x-transmission-session-id': 'fresh' }).end();
    });
    const transmission = client(url);
    await transmission.start(infoHash);
    await transmission.stop(infoHash);
    expect(calls.map((call) => `${call.method} ${String(call.sessionId)}`)).toEqual([
      'torrent-start undefined',
      'torrent-start fresh',
      'torrent-stop fresh',
    ]);
  });

  it('is an error when it is refused twice, not a loop', async () => {
    const { url, calls } = await serve((response) => {
      response.writeHead(409, { 'x-transmission-session-id': `id-${calls.length}` }).end();
    });
    await expect(client(url).list()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('(409)') as string,
    });
    expect(calls).toHaveLength(2);
  });

  it('is an error at once when a 409 has none', async () => {
    const { url, calls } = await serve(status(409));
    await expect(client(url).list()).rejects.toMatchObject({ code: 'unavailable' });
    expect(calls).toHaveLength(1);
  });
});

describe('a failure', () => {
  it.each<[string, Answer, string, RegExp]>([
    ['wrong credentials', status(401), 'configuration', /user name or password \(401\)/],
    ['a lock-out', status(403), 'try-later', /closed to us \(403\)/],
    ['another status', status(500), 'unavailable', /HTTP status 500/],
    ['a redirection', status(301), 'unavailable', /HTTP status 301/],
    ['a reply that is not JSON', text('<html>'), 'unavailable', /not JSON/],
    ['an empty reply', text(''), 'unavailable', /not JSON/],
    ['a reply that is no object', text('null'), 'unavailable', /not one of Transmission's/],
    ['a reply without a result', text('{}'), 'unavailable', /not one of Transmission's/],
    [
      'a refusal',
      text('{"result":"no such thing","arguments":{}}'),
      'configuration',
      /refused torrent-get: no such thing$/,
    ],
    ['a result that is no text', text('{"result":7}'), 'configuration', /torrent-get: number$/],
    [
      'an endless reply',
      (response) => {
        const pour = () => {
          while (!response.destroyed && response.write(Buffer.alloc(1 << 20)));
        };
        response.on('drain', pour);
        pour();
      },
      'unavailable',
      /cannot reach it/,
    ],
    [
      'a connection that breaks off',
      (response) => {
        response.writeHead(200, { 'content-length': 100 }).write('{"result"');
        response.destroy();
      },
      'unavailable',
      /cannot reach it/,
    ],
  ])('is reported with its code and reason: %s', async (_, answer, code, message) => {
    const { url, calls } = await serve(answer);
    await expect(client(url).list()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
    expect(calls).toHaveLength(1);
  });

  it.each<[string, Answer]>([
    ['no reply', () => undefined],
    ['half a reply', (response) => void response.write('{"result":')],
  ])('is reported when the time is over: %s', async (_, answer) => {
    const { url } = await serve(answer);
    await expect(client(url, { timeoutSeconds: 0.1 }).list()).rejects.toMatchObject({
      code: 'unavailable',
      message: `Transmission at ${url}: no answer within 0.1 s`,
    });
  });

  it('is reported with its cause when the daemon is down', async () => {
    const { url } = await serve(status(500));
    const { port } = new URL(url);
    const nobody = url.replace(port, '1');
    await expect(client(nobody).list()).rejects.toMatchObject({
      code: 'unavailable',
      cause: { code: 'ECONNREFUSED' },
      hint: expect.stringContaining('start transmission-daemon') as string,
    });
  });

  it('names the credentials file when the credentials are wrong, and does not quote it', async () => {
    const { url } = await serve(status(401));
    const file = credentials('{"username":"a","password":"secret"}');
    const failure = client(url, { file }).list();
    await expect(failure).rejects.toMatchObject({
      hint: expect.stringContaining(file) as string,
    });
    await expect(failure).rejects.not.toThrow(/secret/);
  });
});

describe('credentials', () => {
  it('are sent as basic authentication', async () => {
    const { url, calls } = await serve(success({ torrents: [] }));
    const file = credentials('{"username":"p2p","password":"p:ä"}');
    expect(await client(url, { file }).list()).toEqual([]);
    const [call] = calls;
    expect(Buffer.from(call?.authorization?.slice(6) ?? '', 'base64').toString()).toBe('p2p:p:ä');
  });

  it('are not sent when there are none', async () => {
    const { url, calls } = await serve(success({ torrents: [] }));
    await client(url).list();
    expect(calls[0]?.authorization).toBeUndefined();
  });

  it.each([
    ['open to every user', '{"username":"a","password":"hush"}', 0o644, /open to every user/],
    ['writable by every user', '{"username":"a","password":"hush"}', 0o602, /open to every user/],
    ['no JSON', 'a:hush', 0o600, /is not JSON/],
    ['without a password', '{"username":"a"}', 0o600, /lacks/],
    ['a list', '["a","hush"]', 0o600, /lacks/],
    ['null', 'null', 0o600, /lacks/],
    ['a name with a colon', '{"username":"a:b","password":"hush"}', 0o600, /lacks/],
  ])('are refused when the file is %s', (_, content, mode, message) => {
    const file = credentials(content, mode);
    const error = refusal(() => client('http://127.0.0.1:1/', { file }));
    expect(error).toMatchObject({ code: 'configuration' });
    expect(error.message).toMatch(message);
    expect(`${error.message} ${error.hint} ${String(error.cause)}`).not.toContain('hush');
  });

  it('are refused when the file is missing', () => {
    const error = refusal(() => client('http://127.0.0.1:1/', { file: '/nowhere/at/all' }));
    expect(error).toMatchObject({ code: 'configuration', cause: { code: 'ENOENT' } });
  });
});

describe('the RPC URL', () => {
  it.each([
    ['no scheme', '127.0.0.1:9091'],
    ['the scheme https', 'https://127.0.0.1:9091/transmission/rpc'],
    ['a password', 'http://a:hush@127.0.0.1:9091/transmission/rpc'],
    ['the address of another machine', 'http://192.0.2.1:9091/transmission/rpc'],
    [
      'a host name that begins like 127.0.0.1',
      'http://127.0.0.1.example.org:9091/transmission/rpc',
    ],
  ])('is refused when it has %s', (_, url) => {
    const error = refusal(() => client(url));
    expect(error.code).toBe('configuration');
    expect(error.message).not.toContain('hush');
  });

  it.each(['http://localhost:9091/rpc', 'http://[::1]:9091/rpc', 'http://127.1.2.3:9091/rpc'])(
    'is taken when it is %s',
    (url) => {
      expect(() => client(url)).not.toThrow();
    },
  );
});

describe('add', () => {
  it.each([
    ['torrent-added', 'added'],
    ['torrent-duplicate', 'duplicate'],
  ])('sends the torrent, and resolves the reply %s to %s', async (key, outcome) => {
    const { url, calls } = await serve(success({ [key]: { id: 1, hashString: infoHash } }));
    const metainfo = Buffer.from('d4:infode');
    expect(await client(url).add({ metainfo, downloadDir: '/srv/a b' })).toBe(outcome);
    expect(await client(url).add({ magnet, downloadDir: '/srv', paused: true })).toBe(outcome);
    expect(calls.map((call) => [call.method, call.arguments])).toEqual([
      [
        'torrent-add',
        { 'download-dir': '/srv/a b', paused: false, metainfo: metainfo.toString('base64') },
      ],
      ['torrent-add', { 'download-dir': '/srv', paused: true, filename: magnet }],
    ]);
  });

  it.each<[string, Parameters<TransmissionClient['add']>[0], string]>([
    ['a relative directory', { magnet, downloadDir: 'downloads' }, 'configuration'],
    [
      'a URL, which the daemon would fetch',
      { magnet: 'http://a/b', downloadDir: '/d' },
      'malformed',
    ],
    ['a path, which it would open', { magnet: '/etc/passwd', downloadDir: '/d' }, 'malformed'],
  ])('refuses %s before any request is sent', async (_, torrent, code) => {
    const { url, calls } = await serve(success({}));
    await expect(client(url).add(torrent)).rejects.toMatchObject({ code });
    expect(calls).toEqual([]);
  });

  it('fails when the reply has neither outcome', async () => {
    const { url } = await serve(success({}));
    await expect(client(url).add({ magnet, downloadDir: '/d' })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });
});

const raw = {
  hashString: infoHash.toUpperCase(),
  name: 'a',
  status: 4,
  percentDone: 0.5,
  metadataPercentComplete: 1,
  totalSize: 10,
  pieceSize: 16_384,
  downloadDir: '/d',
  files: [{ name: 'a', length: 10, bytesCompleted: 5 }],
  error: 0,
  errorString: '',
  peersConnected: 2,
  rateDownload: 3,
  rateUpload: 7,
  activityDate: 5,
  addedDate: 6,
  uploadedEver: 4,
  trackerStats: [
    { announce: 'http://127.0.0.1:1/', hasAnnounced: true, lastAnnounceSucceeded: false, tier: 0 },
    { announce: 'http://127.0.0.1:2/', hasAnnounced: false, lastAnnounceSucceeded: false, tier: 1 },
  ],
};

it('secondsActive tells no age of a daemon whose clock was set back', async () => {
  const { url } = await serve(success({ 'current-stats': { secondsActive: -34_560_000 } }));
  expect(await client(url).secondsActive()).toBe(Infinity);
});

it('secondsActive counts this run of the daemon, and not all of its runs', async () => {
  const stats = {
    'cumulative-stats': { secondsActive: 999 },
    'current-stats': { secondsActive: 7 },
  };
  const { url, calls } = await serve(success(stats));
  expect(await client(url).secondsActive()).toBe(7);
  expect(calls.map(({ method }) => method)).toEqual(['session-stats']);
});

describe('a torrent', () => {
  it('has the fields that are used, and no others', async () => {
    const { url, calls } = await serve(success({ torrents: [raw] }));
    expect(await client(url).get(infoHash)).toEqual({
      infoHash,
      name: 'a',
      status: 'downloading',
      percentDone: 0.5,
      hasMetadata: true,
      totalSize: 10,
      pieceLength: 16_384,
      downloadDir: '/d',
      files: [{ name: 'a', length: 10 }],
      error: '',
      peersConnected: 2,
      rateDownload: 3,
      rateUpload: 7,
      activeAt: 5,
      addedAt: 6,
      uploadedEver: 4,
      trackers: [
        { announce: 'http://127.0.0.1:1/', lastFailed: true },
        { announce: 'http://127.0.0.1:2/', lastFailed: false },
      ],
    });
    const { fields, ids } = calls[0]?.arguments as { fields: string[]; ids: string[] };
    expect(ids).toEqual([infoHash]);
    expect(fields.sort()).toEqual(Object.keys(raw).sort());
  });

  it.each([
    [0, 'stopped'],
    [1, 'queued'],
    [2, 'checking'],
    [3, 'queued'],
    [4, 'downloading'],
    [5, 'queued'],
    [6, 'seeding'],
  ])('with status %i is %s', async (number, name) => {
    const { url } = await serve(success({ torrents: [{ ...raw, status: number }] }));
    expect(await client(url).list()).toMatchObject([{ status: name }]);
  });

  it.each([
    ['its size is known', 0, 10, true],
    ['Transmission has all of it', 1, 10, true],
    ['neither is so, as with a magnet link', 0.5, 0, false],
  ])('has metadata when %s', async (_, metadataPercentComplete, totalSize, hasMetadata) => {
    const { url } = await serve(
      success({ torrents: [{ ...raw, metadataPercentComplete, totalSize }] }),
    );
    expect(await client(url).get(infoHash)).toMatchObject({ hasMetadata });
  });

  it.each([
    ['has its message of a fault of its own', 3, 'No space left on device'],
    ['has no message of a tracker', 2, ''],
  ])('%s', async (_, error, expected) => {
    const errorString = 'No space left on device';
    const { url } = await serve(success({ torrents: [{ ...raw, error, errorString }] }));
    expect(await client(url).get(infoHash)).toMatchObject({ error: expected });
  });

  it('is undefined when the reply has none, or another', async () => {
    const none = await serve(success({ torrents: [] }));
    expect(await client(none.url).get(infoHash)).toBeUndefined();
    const other = await serve(success({ torrents: [{ ...raw, hashString: 'cd'.repeat(20) }] }));
    expect(await client(other.url).get(infoHash)).toBeUndefined();
  });

  it.each<[string, unknown]>([
    ['no arguments', undefined],
    ['no list', { torrents: {} }],
    ['no object in it', { torrents: [7] }],
    ...Object.keys(raw).map((key): [string, unknown] => [
      key,
      { torrents: [{ ...raw, [key]: null }] },
    ]),
    ['an unknown status', { torrents: [{ ...raw, status: 7 }] }],
    ['an info hash that is none', { torrents: [{ ...raw, hashString: '../x' }] }],
    ['a file without a length', { torrents: [{ ...raw, files: [{ name: 'a' }] }] }],
    ['a tracker without a URL', { torrents: [{ ...raw, trackerStats: [{ tier: 0 }] }] }],
  ])('is refused when the reply is malformed: %s', async (_, args) => {
    const { url } = await serve(success(args));
    await expect(client(url).list()).rejects.toMatchObject({ code: 'unavailable' });
  });
});

it.each(['start', 'stop', 'verify', 'get'] as const)(
  '%s takes one info hash, never an id that might mean every torrent',
  async (method) => {
    const { url, calls } = await serve(success({ torrents: [] }));
    for (const bad of ['', 'recently-active', infoHash.slice(1), infoHash.toUpperCase()]) {
      await expect(client(url)[method](bad)).rejects.toThrow('not an info hash');
    }
    expect(calls).toEqual([]);
    await client(url)[method](infoHash);
    expect(calls).toMatchObject([{ arguments: { ids: [infoHash] } }]);
  },
);

it('freeSpace fails where the daemon knows none', async () => {
  const { url } = await serve(success({ path: '/d', 'size-bytes': -1 }));
  await expect(client(url).freeSpace('/d')).rejects.toMatchObject({ code: 'configuration' });
});
