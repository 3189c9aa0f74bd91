import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { buildMetainfo, contentFileName, magnetUri } from '../../lib/announcement/metainfo.ts';
import { describeContent } from '../../lib/content/hash-content.ts';
import {
  announcePeers,
  forceRechoke,
  rechokeInfoHash,
  prepareRechoke,
  removeLeftOverTrackers,
  announceLimiter,
} from '../../lib/daemons/transmission/announce-peers.ts';
import {
  connectTransmission,
  type TransmissionClient,
} from '../../lib/daemons/transmission/client.ts';
import { ensureSettings, requiredSettings } from '../../lib/daemons/transmission/settings.ts';
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
  await daemon.configure({ encryption: 1, 'lpd-enabled': false });
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
      code: 'unavailable',
      message: 'Transmission refused torrent-add: invalid or corrupt torrent file',
    });
  });

  it('reports the free space of a directory, and fails for one that does not exist', async () => {
    expect(await transmission.freeSpace(daemon.downloadDir)).toBeGreaterThan(0);
    const missing = join(daemon.directory, 'missing');
    await expect(transmission.freeSpace(missing)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it.each([
    ['with metadata', false],
    ['by magnet link, without metadata', true],
  ])('adds and removes trackers of a torrent %s', async (_, isMagnet) => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    if (isMagnet) {
      const { downloadDir } = daemon;
      const magnet = magnetUri(content);
      expect(await transmission.add({ magnet, downloadDir })).toBe('added');
      expect(await transmission.get(infoHash)).toMatchObject({ hasMetadata: false, totalSize: 0 });
    } else await add(content);
    const urls = ['http://127.0.0.1:9/one', 'http://127.0.0.1:9/two'];
    for (const url of urls) await transmission.addTracker(infoHash, url);
    expect(await trackersOf(infoHash)).toEqual(urls);
    const [first] = (await transmission.get(infoHash))?.trackers ?? [];
    await transmission.removeTrackers(infoHash, [first?.id ?? NaN]);
    expect(await trackersOf(infoHash)).toEqual(urls.slice(1));
  });

  it('gets the settings that a swarm needs', async () => {
    expect(await ensureSettings(transmission, null)).toEqual([]);
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
    expect(await ensureSettings(transmission, null)).toEqual([]);
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
    expect(await ensureSettings(transmission, hook)).toEqual([
      `Transmission's script-torrent-done is off, ${late}`,
    ]);
    await setHook(true, '/bin/true');
    expect(await ensureSettings(transmission, hook)).toEqual([
      `Transmission's script-torrent-done is "/bin/true", ${late}`,
    ]);
    await setHook(true, hook);
    expect(await ensureSettings(transmission, hook)).toEqual([]);
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
  const hook = '/opt/p2p-update/dist/handlers/transmission-done.cjs';
  expect(await ensureSettings(client, hook)).toEqual([]);
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
  const feed = async (infoHash: string, timeoutMs: number, peers = () => Promise.resolve([])) => {
    const told: string[] = [];
    const log = (message: string) => void told.push(message);
    const outcome = await announcePeers({
      ...{ transmission, infoHash, peers, timeoutMs, log },
      turn: announceLimiter(),
    });
    return { outcome, told };
  };

  it.each([
    ['metainfo', false],
    ['magnet link', true],
  ])('serves the announce of a torrent by %s, and removes the tracker', async (_, isMagnet) => {
    const content = await makeContent({ isThere: false });
    if (isMagnet) {
      const magnet = magnetUri(content);
      await transmission.add({ magnet, downloadDir: daemon.downloadDir });
    } else await add(content);
    let asked = 0;
    const { outcome, told } = await feed(content.infoHash, 4000, () => {
      asked += 1;
      return Promise.resolve([]);
    });
    expect({ outcome, told, asked }).toEqual({ outcome: 'incomplete', told: [], asked: 1 });
    expect(await trackersOf(content.infoHash)).toEqual([]);
  });

  it('serves several torrents at once', async () => {
    const contents = await Promise.all([1, 2, 3].map(() => makeContent({ isThere: false })));
    await Promise.all(contents.map((content) => add(content)));
    const asked = new Set<string>();
    await Promise.all(
      contents.map(({ infoHash }) =>
        feed(infoHash, 4000, () => {
          asked.add(infoHash);
          return Promise.resolve([]);
        }),
      ),
    );
    expect(asked).toEqual(new Set(contents.map(({ infoHash }) => infoHash)));
  });

  it('goes on without peers when Serf is down, and logs that', async () => {
    const content = await makeContent({ isThere: false });
    await add(content);
    const { outcome, told } = await feed(content.infoHash, 3000, () =>
      Promise.reject(new Error('agent down')),
    );
    expect(outcome).toBe('incomplete');
    expect(told).toEqual([`cannot name peers of ${content.infoHash}: agent down`]);
    expect(await trackersOf(content.infoHash)).toEqual([]);
  });

  it('announces to a seed only after some seconds', async () => {
    const content = await makeContent({ isThere: true });
    await add(content);
    await isSeeding(content.infoHash);
    const { outcome, told } = await feed(content.infoHash, 1500, () => {
      throw new Error('asked');
    });
    expect({ outcome, told }).toEqual({ outcome: 'complete', told: [] });
  });

  it("returns 'missing' when there is no such torrent", async () => {
    expect(await feed('ee'.repeat(20), 1000)).toEqual({ outcome: 'missing', told: [] });
  });

  it('leaves a tracker when it is killed, which is found and removed while others stay', async () => {
    const content = await makeContent({ isThere: false });
    const { infoHash } = content;
    await add(content, true);
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const token = 'a'.repeat(32);
    const dead = `http://127.0.0.1:${await freePort()}/announce/${token}`;
    const alive = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/announce/${token}`;
    const foreign = `http://127.0.0.1:${await freePort()}/announce`;
    for (const url of [dead, foreign, alive]) await transmission.addTracker(infoHash, url);
    await removeLeftOverTrackers(transmission);
    expect(await trackersOf(infoHash)).toEqual([foreign, alive]);
    listener.close();
    await once(listener, 'close');
    await removeLeftOverTrackers(transmission);
    expect(await trackersOf(infoHash)).toEqual([foreign]);
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
