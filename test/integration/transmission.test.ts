import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  buildMetainfo,
  contentFileName,
  magnetUri,
  withAnnounceUrl,
} from '../../lib/announcement/metainfo.ts';
import { describeContent } from '../../lib/content/hash-content.ts';
import {
  type AnnounceDeps,
  Announcer,
  announceLimiter,
  announcePeers,
  forceRechoke,
  prepareRechoke,
  rechokeInfoHash,
} from '../../lib/daemons/transmission/announce-peers.ts';
import {
  connectTransmission,
  type TransmissionClient,
} from '../../lib/daemons/transmission/client.ts';
import { hookFile } from '../../lib/config.ts';
import { ensureSettings, requiredSettings } from '../../lib/daemons/transmission/settings.ts';
import { hasFailedAnnounce } from '../../lib/daemons/transmission/torrent.ts';
import type { Peer } from '../../lib/daemons/transmission/tracker.ts';
import { waitFor } from '../support/run/wait-for.ts';

/** A real transmission-daemon with a configuration of its own, on free ports. */
class TestDaemon {
  readonly directory = mkdtempSync(join(tmpdir(), 'transmission '));
  readonly downloadDir = join(this.directory, 'downloads');
  readonly credentialsFile = join(this.directory, 'transmission.json');
  url = '';
  #child: ChildProcess | undefined;

  async configure(base: Record<string, unknown> = {}): Promise<void> {
    const [rpcPort, peerPort] = [await freePort(), await freePort()];
    const settings = {
      ...base,
      'download-dir': this.downloadDir,
      'peer-port': peerPort,
      'port-forwarding-enabled': false,
      'rpc-authentication-required': true,
      'rpc-bind-address': '127.0.0.1',
      'rpc-password': password,
      'rpc-port': rpcPort,
      'rpc-username': 'tester',
      'rpc-whitelist': '127.0.0.1',
    };
    mkdirSync(this.downloadDir);
    mkdirSync(join(this.directory, 'config'));
    writeFileSync(join(this.directory, 'config', 'settings.json'), JSON.stringify(settings));
    this.#writeCredentials(this.credentialsFile, password);
    this.url = `http://127.0.0.1:${rpcPort}/transmission/rpc`;
  }

  #writeCredentials(file: string, secret: string): void {
    writeFileSync(file, JSON.stringify({ username: 'tester', password: secret }), { mode: 0o600 });
  }

  async start(): Promise<TransmissionClient> {
    const config = join(this.directory, 'config');
    const argv = ['-f', '--config-dir', config, '--log-error'];
    this.#child = spawn('transmission-daemon', argv, { stdio: 'ignore' });
    const client = this.connect();
    await waitFor('the daemon answers', () => client.list().catch(() => undefined));
    return client;
  }

  connect(secret = password): TransmissionClient {
    const credentialsFile = join(this.directory, `${secret.length}.json`);
    this.#writeCredentials(credentialsFile, secret);
    return connectTransmission({ url: this.url, credentialsFile, timeoutSeconds: 5 });
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

const password = 'a "pass:wörd"';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const daemon = new TestDaemon();
let transmission: TransmissionClient;

beforeAll(async () => {
  // 3.00 always has that guard, 4.1 has to be told.
  const guard = { 'anti-brute-force-enabled': true };
  await daemon.configure({ encryption: 1, 'lpd-enabled': false, ...guard });
  transmission = await daemon.start();
});

afterAll(async () => {
  await daemon.kill();
  rmSync(daemon.directory, { recursive: true });
});

interface TestContent {
  bytes: Buffer;
  metainfo: Buffer;
  infoHash: string;
  fileName: string;
  /** The path where the daemon has it, or would put it. */
  file: string;
}

/** Content that no other daemon has; `isThere` when the daemon is to find it in its directory. */
async function makeContent({ isThere }: { isThere: boolean }): Promise<TestContent> {
  const name = 'content.bin';
  const bytes = randomBytes(100_000);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const fileName = contentFileName({ sha256, name });
  const file = join(daemon.downloadDir, fileName);
  writeFileSync(file, bytes);
  const described = await describeContent(file, { name, pieceLength: 16_384 });
  if (!isThere) rmSync(file);
  const metainfo = buildMetainfo({ ...described, name });
  return { bytes, metainfo, infoHash: described.infoHash, fileName, file };
}

function add({ metainfo }: TestContent, paused = false): Promise<'added' | 'duplicate'> {
  return transmission.add({ metainfo, downloadDir: daemon.downloadDir, paused });
}

/** Adds a torrent as advance does, with an announce URL. */
function addWith(
  content: TestContent,
  url: string,
  isMagnet = false,
): Promise<'added' | 'duplicate'> {
  const { downloadDir } = daemon;
  if (isMagnet) return transmission.add({ magnet: magnetUri(content, url), downloadDir });
  return transmission.add({ metainfo: withAnnounceUrl(content.metainfo, url), downloadDir });
}

const isSeeding = (infoHash: string): Promise<boolean> =>
  waitFor(`${infoHash} is seeded`, async () => {
    const torrent = await transmission.get(infoHash);
    return torrent?.status === 'seeding' && torrent.percentDone === 1;
  });

const trackersOf = async (infoHash: string): Promise<string[] | undefined> =>
  (await transmission.get(infoHash))?.trackers.map(({ announce }) => announce);

describe('the real daemon', () => {
  it('takes a metainfo of ours under the info hash that we computed, and once only', async () => {
    const content = await makeContent({ isThere: false });
    expect(await add(content, true)).toBe('added');
    expect(await add(content, true)).toBe('duplicate');
    expect(await waitFor('it is there', () => transmission.get(content.infoHash))).toMatchObject({
      infoHash: content.infoHash,
      name: content.fileName,
      hasMetadata: true,
      totalSize: 100_000,
      downloadDir: daemon.downloadDir,
      files: [{ name: content.fileName, length: 100_000 }],
      error: '',
      trackers: [],
    });
    const all = await transmission.list();
    expect(all.filter(({ infoHash }) => infoHash === content.infoHash)).toHaveLength(1);
  });

  it('seeds content that is there already, and finds out by a check that it was damaged', async () => {
    const content = await makeContent({ isThere: true });
    await add(content);
    await isSeeding(content.infoHash);
    content.bytes.writeUInt8(content.bytes.readUInt8(50_000) ^ 1, 50_000);
    writeFileSync(content.file, content.bytes);
    await transmission.verify(content.infoHash);
    const isDamaged = await waitFor('the damage is seen', async () => {
      const torrent = await transmission.get(content.infoHash);
      return torrent?.status === 'downloading' && torrent.percentDone < 1;
    });
    expect(isDamaged).toBe(true);
  });

  it('starts and stops a torrent', async () => {
    const content = await makeContent({ isThere: true });
    await add(content, true);
    const has = (status: string) =>
      waitFor(status, async () => (await transmission.get(content.infoHash))?.status === status);
    await has('stopped');
    await transmission.start(content.infoHash);
    await has('seeding');
    await transmission.stop(content.infoHash);
    await has('stopped');
  });

  it.each([
    ['with its data', true],
    ['without its data', false],
  ])('removes a torrent %s', async (_, deleteData) => {
    const content = await makeContent({ isThere: true });
    await add(content);
    await isSeeding(content.infoHash);
    await transmission.remove(content.infoHash, { deleteData });
    await waitFor('it is gone', async () => !(await transmission.get(content.infoHash)));
    await waitFor('so is the file', () => existsSync(content.file) !== deleteData);
  });

  it('does nothing for an info hash that it does not have', async () => {
    const before = await transmission.list();
    const unknown = 'ee'.repeat(20);
    expect(await transmission.get(unknown)).toBeUndefined();
    await transmission.start(unknown);
    await transmission.remove(unknown, { deleteData: true });
    expect((await transmission.list()).map(({ infoHash }) => infoHash)).toEqual(
      before.map(({ infoHash }) => infoHash),
    );
  });

  it('refuses a payload that is no metainfo, with the reason', async () => {
    const metainfo = Buffer.from('d4:infodee');
    await expect(
      transmission.add({ metainfo, downloadDir: daemon.downloadDir }),
    ).rejects.toMatchObject({
      // The daemon is there, and serves the other channels.
      code: 'configuration',
      // 3.00 says `invalid or corrupt torrent file`, 4.1 `unrecognized info`.
      message: expect.stringMatching(/^Transmission refused torrent-add: [a-z]/) as string,
    });
  });

  it('reports the free space of a directory, and fails for one that does not exist', async () => {
    expect(await transmission.freeSpace(daemon.downloadDir)).toBeGreaterThan(0);
    const missing = join(daemon.directory, 'missing');
    await expect(transmission.freeSpace(missing)).rejects.toMatchObject({ code: 'configuration' });
  });

  it.each([
    ['with metadata', false],
    ['by magnet link, without metadata', true],
  ])(
    'adds a torrent %s with an announce URL, and under the same info hash',
    async (_, isMagnet) => {
      const content = await makeContent({ isThere: false });
      const url = `http://127.0.0.1:9/announce/${'a'.repeat(32)}`;
      expect(await addWith(content, url, isMagnet)).toBe('added');
      expect(await transmission.get(content.infoHash)).toMatchObject({ hasMetadata: !isMagnet });
      expect(await trackersOf(content.infoHash)).toEqual([url]);
      const failed = await waitFor('its announce fails', async () => {
        const torrent = await transmission.get(content.infoHash);
        return torrent !== undefined && hasFailedAnnounce(torrent);
      });
      expect(failed).toBe(true);
    },
  );

  it('gets the settings that a swarm needs', async () => {
    expect(await ensureSettings(transmission, [])).toEqual([]);
    const settings = {
      encryption: 'tolerated',
      'download-queue-enabled': false,
      'seed-queue-enabled': false,
      seedRatioLimited: false,
      'idle-seeding-limit-enabled': false,
      'dht-enabled': false,
      'pex-enabled': true,
      'lpd-enabled': true,
      'utp-enabled': false,
    };
    expect(await transmission.session(Object.keys(settings))).toEqual(settings);
    // A second time there is nothing to set.
    expect(await ensureSettings(transmission, [])).toEqual([]);
  });

  it('gets no hook, but a wrong one is reported', async () => {
    const hook = '/opt/p2p-update/dist/handlers/transmission-done.cjs';
    const setHook = (isEnabled: boolean, file: string): Promise<void> =>
      transmission.setSession({
        'script-torrent-done-enabled': isEnabled,
        'script-torrent-done-filename': file,
      });
    await setHook(false, hook);
    const late = `not ${hook}: finished downloads are noticed late`;
    expect(await ensureSettings(transmission, [hook, '/opt/other'])).toEqual([
      `Transmission's script-torrent-done is off, ${late}`,
    ]);
    await setHook(true, '/bin/true');
    expect(await ensureSettings(transmission, [hook, '/opt/other'])).toEqual([
      `Transmission's script-torrent-done is "/bin/true", ${late}`,
    ]);
    await setHook(true, '/opt/other');
    expect(await ensureSettings(transmission, [hook, '/opt/other'])).toEqual([]);
    await setHook(true, hook);
    expect(await ensureSettings(transmission, [hook, '/opt/other'])).toEqual([]);
  });
});

it('the sample settings have the settings that a swarm needs', async () => {
  const sample = new URL('../../docs/transmission-settings.json', import.meta.url);
  const other = new TestDaemon();
  onTestFinished(async () => {
    await other.kill();
    rmSync(other.directory, { recursive: true });
  });
  await other.configure(JSON.parse(readFileSync(sample, 'utf8')) as Record<string, unknown>);
  const client = await other.start();
  expect(await client.session(Object.keys(requiredSettings))).toEqual(requiredSettings);
  expect(await ensureSettings(client, [hookFile])).toEqual([]);
});

describe('forceRechoke', () => {
  const isStopped = () =>
    waitFor('it is stopped', async () => {
      const dummy = await transmission.get(rechokeInfoHash);
      return dummy?.status === 'stopped' && dummy.percentDone === 0;
    });

  it('starts and stops a torrent that stays, also after a call that was killed half-way', async () => {
    await prepareRechoke(transmission, daemon.downloadDir);
    await prepareRechoke(transmission, daemon.downloadDir);
    await isStopped();
    await forceRechoke(transmission);
    await isStopped();
    await transmission.start(rechokeInfoHash);
    await forceRechoke(transmission);
    await isStopped();
    expect(existsSync(join(daemon.downloadDir, 'p2p-update-kick'))).toBe(false);
  });
});

describe('announcePeers', () => {
  /** Deps that record the number of times that peers were asked for, and the failures. */
  const recording = (peers: () => Promise<Peer[]> = () => Promise.resolve([])) => {
    const seen = { asked: 0, told: [] as string[] };
    const deps: AnnounceDeps = {
      transmission,
      turn: announceLimiter(),
      peers: () => {
        seen.asked += 1;
        return peers();
      },
      starved: () => Promise.resolve(),
      log: (message) => void seen.told.push(message),
    };
    return { seen, deps };
  };

  const open = async (deps: AnnounceDeps, infoHash: string): Promise<Announcer> => {
    const announcer = await Announcer.open(deps, infoHash);
    if (announcer === undefined) throw new Error('the port is taken');
    return announcer;
  };

  const isAnswered = (infoHash: string) =>
    waitFor('its announce is answered', async () => {
      const torrent = await transmission.get(infoHash);
      return torrent?.trackers.every(({ lastFailed }) => !lastFailed);
    });

  it.each([
    ['metainfo', false],
    ['magnet link', true],
  ])('names peers to a torrent by %s that was added with its URL', async (_, isMagnet) => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    const { seen, deps } = recording();
    const announcer = await open(deps, infoHash);
    await addWith(content, announcer.url, isMagnet);
    expect(await announcePeers({ ...deps, infoHash, timeoutMs: 4000, announcer })).toBe(
      'incomplete',
    );
    expect(seen).toEqual({ asked: 1, told: [] });
    expect(await trackersOf(infoHash)).toEqual([announcer.url]);
    await isAnswered(infoHash);
  });

  it('names peers again as long as there is none, at an interval that Transmission keeps', async () => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    const { seen, deps } = recording();
    const announcer = await open(deps, infoHash);
    await addWith(content, announcer.url);
    await announcePeers({ ...deps, infoHash, timeoutMs: 20_000, announcer });
    expect(seen.asked).toBeGreaterThanOrEqual(2);
    await isAnswered(infoHash);
  });

  it.each([
    ['metainfo', false],
    ['magnet link', true],
  ])(
    'serves the URL of a torrent by %s again, after a process that was killed',
    async (_, isMagnet) => {
      const content = await makeContent({ isThere: false });
      const { infoHash } = content;
      const dead = `http://127.0.0.1:${await freePort()}/announce/${'b'.repeat(32)}`;
      await addWith(content, dead, isMagnet);
      await waitFor('its announce has failed', async () => {
        const torrent = await transmission.get(infoHash);
        return torrent !== undefined && hasFailedAnnounce(torrent);
      });
      for (const asked of [1, 1]) {
        const { seen, deps } = recording();
        await announcePeers({ ...deps, infoHash, timeoutMs: 5000 });
        expect(seen).toEqual({ asked, told: [] });
        await isAnswered(infoHash);
      }
      expect(await trackersOf(infoHash)).toEqual([dead]);
    },
  );

  it('serves several torrents at once', async () => {
    const contents = await Promise.all([1, 2, 3].map(() => makeContent({ isThere: false })));
    const all = await Promise.all(
      contents.map(async (content) => {
        const { seen, deps } = recording();
        const announcer = await open(deps, content.infoHash);
        await addWith(content, announcer.url);
        await announcePeers({ ...deps, infoHash: content.infoHash, timeoutMs: 4000, announcer });
        return seen.asked;
      }),
    );
    expect(all).toEqual([1, 1, 1]);
  });

  it('goes on without peers when Serf is down, and logs that', async () => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    const { seen, deps } = recording(() => Promise.reject(new Error('agent down')));
    const announcer = await open(deps, infoHash);
    await addWith(content, announcer.url);
    const outcome = await announcePeers({ ...deps, infoHash, timeoutMs: 3000, announcer });
    expect(outcome).toBe('incomplete');
    expect(seen.told).toEqual([`cannot name peers of ${infoHash}: agent down`]);
  });

  it('names no peers to a seed in its first seconds, and then does', async () => {
    const content = await makeContent({ isThere: true });
    const { infoHash } = content;
    const { seen, deps } = recording();
    const announcer = await open(deps, infoHash);
    await addWith(content, announcer.url);
    await isSeeding(infoHash);
    const early = announcePeers({ ...deps, infoHash, timeoutMs: 2000, announcer });
    expect(await early).toBe('complete');
    expect(seen.asked).toBe(0);
    await isAnswered(infoHash);
    expect(await announcePeers({ ...deps, infoHash, timeoutMs: 8000 })).toBe('complete');
    expect(seen).toEqual({ asked: 1, told: [] });
    await isSeeding(infoHash);
  });

  it("returns 'missing' when there is no such torrent", async () => {
    const { deps } = recording();
    const outcome = await announcePeers({ ...deps, infoHash: 'ee'.repeat(20), timeoutMs: 1000 });
    expect(outcome).toBe('missing');
  });

  it.each(['no announce URL', 'a URL whose port is taken by a stranger'])(
    "returns 'unannounced' for a torrent with %s",
    async (which) => {
      const content = await makeContent({ isThere: false });
      const { infoHash } = content;
      const stranger = createServer().listen(0, '127.0.0.1');
      onTestFinished(() => void stranger.close());
      await once(stranger, 'listening');
      const { port } = stranger.address() as AddressInfo;
      if (which === 'no announce URL') await add(content);
      else await addWith(content, `http://127.0.0.1:${port}/announce/${'c'.repeat(32)}`);
      const { seen, deps } = recording();
      const outcome = await announcePeers({ ...deps, infoHash, timeoutMs: 5000 });
      expect(outcome).toBe('unannounced');
      expect(seen.asked).toBe(0);
    },
  );

  it('leaves a torrent to the process that announces it already', async () => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    const [first, second] = [recording(), recording()];
    const announcer = await open(first.deps, infoHash);
    await addWith(content, announcer.url);
    const both = await Promise.all([
      announcePeers({ ...first.deps, infoHash, timeoutMs: 4000, announcer }),
      announcePeers({ ...second.deps, infoHash, timeoutMs: 4000 }),
    ]);
    expect(both).toEqual(['incomplete', 'incomplete']);
    expect([first.seen.asked, second.seen.asked]).toEqual([1, 0]);
  });
});

describe('the RPC', () => {
  it('works on after a restart of the daemon, which has another session id then', async () => {
    const content = await makeContent({ isThere: true });
    await add(content);
    await isSeeding(content.infoHash);
    await daemon.kill();
    await expect(transmission.list()).rejects.toMatchObject({ code: 'unavailable' });
    await daemon.start();
    // It answers before it has loaded its torrents.
    await waitFor('it has loaded them', () => transmission.get(content.infoHash));
  });

  it('distinguishes a wrong password from a lock-out, until a restart', async () => {
    const wrong = daemon.connect('wrong');
    await expect(wrong.list()).rejects.toMatchObject({ code: 'configuration' });
    await expect(transmission.list()).resolves.toBeDefined();
    for (let attempt = 0; attempt < 100; attempt += 1) await wrong.list().catch(() => undefined);
    await expect(wrong.list()).rejects.toMatchObject({ code: 'try-later' });
    await expect(transmission.list()).rejects.toMatchObject({ code: 'try-later' });
    await daemon.kill();
    await daemon.start();
    await expect(transmission.list()).resolves.toBeDefined();
  });
});
