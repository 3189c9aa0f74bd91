import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { computeInfoHash } from '../../lib/announcement/metainfo.ts';
import { contentName, type Update } from '../../lib/announcement/update.ts';
import type { Config } from '../../lib/config.ts';
import { noAnnounces } from '../support/fleet/memory-transmission.ts';
import {
  connectTransmission,
  type TransmissionClient,
} from '../../lib/daemons/transmission/client.ts';
import type { Torrent } from '../../lib/daemons/transmission/torrent.ts';
import { advance } from '../../lib/reconciler/advance/advance.ts';
import { outcomesDir, updatesDir } from '../../lib/state/layout.ts';
import { isMarked, removeMarker } from '../../lib/state/markers.ts';
import { readProgress, writeProgress } from '../../lib/state/progress.ts';
import { type LoggedEvent, readEvents } from '../../lib/system/event-log.ts';
import { type ApplySide, makeApplySide } from '../support/fleet/apply-side.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { waitFor } from '../support/run/wait-for.ts';
import { programArgv } from '../support/run/program.ts';

// One real daemon, killed as by a power cut or the OOM killer, and the passes of advance after that.

const pieceLength = 16_384;
let directory: string;
let side: ApplySide;
let config: Config;
let daemon: ChildProcess | undefined;
let transmission: TransmissionClient;
/** Writes the daemon's settings, for its next start. */
let configure: (change: Record<string, unknown>) => void;
/** Seconds by which the clock is put forward, instead of waiting. */
let lead = 0;

beforeEach(async () => {
  directory = temporaryDirectory();
  lead = 0;
  side = makeApplySide(directory);
  ({ config } = side);
  const settings = {
    'dht-enabled': false,
    'lpd-enabled': false,
    // A torrent that has lost its resume file comes back there.
    'download-dir': config.downloadDir,
    'peer-port': await freePort(),
    'port-forwarding-enabled': false,
    'rpc-authentication-required': false,
    'rpc-bind-address': '127.0.0.1',
    'rpc-port': await freePort(),
  };
  mkdirSync(at('transmission'));
  mkdirSync(at('elsewhere'));
  configure = (change) => {
    writeFileSync(at('transmission', 'settings.json'), JSON.stringify({ ...settings, ...change }));
  };
  configure({});
  const url = `http://127.0.0.1:${settings['rpc-port']}/transmission/rpc`;
  config.transmission = { url, credentialsFile: null, timeoutSeconds: 5 };
  transmission = connectTransmission(config.transmission);
  await start();
});

afterEach(kill);

const at = (...parts: string[]): string => join(directory, ...parts);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function start(): Promise<void> {
  const argv = ['--foreground', '--config-dir', at('transmission'), '--log-error'];
  daemon = spawn('transmission-daemon', argv, { stdio: 'ignore' });
  await waitFor('the daemon answers', () => transmission.list().catch(() => undefined));
}

async function kill(): Promise<void> {
  if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
  const exit = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await exit;
}

/** As after a boot: killed, started, and running for long enough. */
async function crash(damage: () => void = () => undefined): Promise<void> {
  await kill();
  damage();
  // The daemon counts from its start in seconds, and our record is older than that.
  lead += 60;
  await start();
  await waitFor(
    'it has loaded its torrents',
    async () => (await transmission.secondsActive()) >= 1,
  );
}

/** True for 3.00, which writes its progress 6 minutes after the add; 4.1 writes it at once. */
async function losesProgress(): Promise<boolean> {
  const { version } = await transmission.session(['version']);
  return /^3\./.test(String(version));
}

/** As a power cut may leave a daemon. */
function forgetAll(): void {
  for (const name of ['torrents', 'resume'])
    for (const file of readdirSync(at('transmission', name)))
      rmSync(at('transmission', name, file));
}

/** One pass of advance on a daemon that has been up for a while. */
async function pass(daemonSeconds = 30): Promise<Omit<LoggedEvent, 'handler'>[]> {
  const events: Omit<LoggedEvent, 'handler'>[] = [];
  const chores = await advance(config, {
    transmission: { ...transmission, secondsActive: () => Promise.resolve(daemonSeconds) },
    ...noAnnounces(),
    nowSeconds: () => Math.floor(Date.now() / 1000) + lead,
    buildTime: 0,
    log: (event) => events.push(event),
    warn: () => undefined,
    hooks: [],
  });
  await Promise.all(chores);
  return events;
}

const torrentOf = (update: Update): Promise<Torrent | undefined> =>
  transmission.get(update.infoHash);

const untilSeeding = (update: Update): Promise<boolean> =>
  waitFor('it is seeded', async () => {
    const torrent = await torrentOf(update);
    return torrent?.status === 'seeding' && torrent.percentDone === 1;
  });

/** An update whose content is where it is to be downloaded to, as if it had been. */
async function receive(base = config.downloadDir): Promise<{ update: Update; file: string }> {
  const bytes = randomBytes(300_000);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const pieces = Buffer.concat(
    Array.from({ length: Math.ceil(bytes.length / pieceLength) }, (_, index) =>
      createHash('sha1')
        .update(bytes.subarray(index * pieceLength, (index + 1) * pieceLength))
        .digest(),
    ),
  );
  const content = { name: 'a.bin', sha256, length: bytes.length, pieceLength, pieces };
  const infoHash = computeInfoHash(content);
  const update = side.receive({ kind: 'file', ...content, infoHash }, bytes);
  removeMarker(config.applyDir, infoHash);
  const name = contentName(update);
  if (base !== config.downloadDir) rmSync(join(config.downloadDir, name));
  const file = join(base, name);
  writeFileSync(file, bytes);
  await pass();
  await untilSeeding(update);
  await pass();
  expect(stateOf(update)).toBe('COMPLETE');
  expect(isMarked(config.applyDir, infoHash)).toBe(true);
  return { update, file };
}

const stateOf = (update: Update) => readProgress(updatesDir(config.stateDir), update)?.state;

/** Two passes are enough, and nothing was downloaded: there is no peer to download from. */
async function converges(update: Update): Promise<void> {
  await pass();
  await waitFor('no check is under way', async () => {
    const torrent = await torrentOf(update);
    return torrent !== undefined && torrent.status !== 'checking' && torrent.status !== 'queued';
  });
  await pass();
  await untilSeeding(update);
  expect(stateOf(update)).toBe('COMPLETE');
}

describe('after kill -9 of the daemon', () => {
  it('a torrent that came back at 0 % is checked, and found to be complete', async () => {
    const { update } = await receive();
    await crash();
    const found = await waitFor('it is loaded', () => torrentOf(update));
    if (await losesProgress()) expect(found.percentDone).toBeLessThan(1);
    await converges(update);
  });

  it('a torrent that was not known to be complete yet is so too', async () => {
    const { update } = await receive();
    // The kill came before any pass had seen it.
    const records = updatesDir(config.stateDir);
    const record = readProgress(records, update);
    if (record === undefined) throw new Error('no record');
    const queuedAt = record.at.QUEUED ?? '';
    writeProgress(
      records,
      update,
      record,
      { state: 'QUEUED', reason: '' },
      Date.parse(queuedAt) / 1000,
    );
    await crash();
    const found = await waitFor('it is loaded', () => torrentOf(update));
    if (await losesProgress()) expect(found.percentDone).toBeLessThan(1);
    await converges(update);
  });

  it('a torrent that came back elsewhere, without its resume file, is put where its data is', async () => {
    const { update } = await receive();
    await crash(() => {
      rmSync(at('transmission', 'resume', `${update.infoHash}.resume`), { force: true });
      configure({ 'download-dir': at('elsewhere') });
    });
    const found = await waitFor('it is loaded', () => torrentOf(update));
    expect(found.downloadDir).toBe(at('elsewhere'));
    await converges(update);
    expect((await torrentOf(update))?.downloadDir).toBe(config.downloadDir);
    expect(readdirSync(at('elsewhere'))).toEqual([]);
  });

  it('a torrent that was submitted here is seeded from the publish directory', async () => {
    const { update } = await receive(config.publishDir);
    await crash();
    await converges(update);
    expect((await torrentOf(update))?.downloadDir).toBe(config.publishDir);
  });

  it('a missing torrent is added again, unless it may not be loaded yet', async () => {
    const { update } = await receive();
    await crash(forgetAll);
    expect(await pass(9)).toMatchObject([{ decision: 'wait' }]);
    expect(await torrentOf(update)).toBeUndefined();
    await converges(update);
  });

  it('a missing torrent is brought all the way by one reconciler, which waits for the daemon', async () => {
    const { update } = await receive();
    await crash(forgetAll);
    const configFile = at('etc', 'config.json');
    writeFileSync(configFile, JSON.stringify(config));
    const [node = '', ...args] = programArgv('p2p-update.cjs reconcile');
    const child = spawn(node, args, {
      env: { ...process.env, P2P_UPDATE_CONFIG: configFile },
      stdio: 'ignore',
    });
    // No Serf is here to catch up by.
    expect(await once(child, 'exit')).toEqual([69, null]);
    const [first] = readEvents(config.stateDir);
    expect(first).toMatchObject({ handler: 'advance', decision: 'wait' });
    await untilSeeding(update);
    expect(side.outcomeOf(update)?.state).toBe('APPLIED');
  });

  it('a file that was whole, and had yet to get its name, is applied under the name that it has', async () => {
    const { update, file } = await receive();
    await crash(() => {
      renameSync(file, `${file}.part`);
    });
    await converges(update);
    // Else there is nothing to test: a daemon that renames it.
    expect(existsSync(file)).toBe(false);
    await side.apply();
    expect(side.outcomeOf(update)?.state).toBe('APPLIED');
  });

  it('a partial file does not count as content with a wrong hash', async () => {
    const { update, file } = await receive();
    renameSync(file, `${file}.part`);
    truncateSync(`${file}.part`, 100_000);
    expect(await side.apply()).toMatchObject([
      { decision: 'wait', reason: 'of the download: there is no such file' },
    ]);
    expect(side.outcomeOf(update)).toBeUndefined();
  });

  it('a torrent that came back stopped is started, also when it is complete', async () => {
    const { update } = await receive();
    await transmission.stop(update.infoHash);
    await waitFor('it is stopped', async () => (await torrentOf(update))?.status === 'stopped');
    await crash();
    await waitFor('the daemon has loaded it', async () => (await torrentOf(update)) !== undefined);
    expect((await torrentOf(update))?.status).toBe('stopped');
    await converges(update);
  });

  it('an applied update is seeded again, and not applied again', async () => {
    const { update } = await receive();
    await side.apply();
    const applied = readProgress(outcomesDir(config.applyDir), update);
    expect(applied?.state).toBe('APPLIED');
    await crash();
    await converges(update);
    await side.apply();
    expect(readProgress(outcomesDir(config.applyDir), update)).toEqual(applied);
  });
});

describe('content that was deleted', () => {
  it.each([
    ['while the daemon was running', false],
    ['while the daemon was down', true],
  ])('is downloaded again when that was %s', async (_, isDown) => {
    const { update, file } = await receive();
    await side.apply();
    if (isDown)
      await crash(() => {
        rmSync(file);
      });
    else rmSync(file);
    await pass();
    await waitFor('it is a download again', async () => {
      const torrent = await torrentOf(update);
      return torrent?.status === 'downloading' && torrent.percentDone === 0;
    });
    // No peer has it here; to ask once more for a torrent that is on its way would be wrong.
    expect(await pass()).toEqual([]);
    expect(side.outcomeOf(update)?.state).toBe('APPLIED');
  });

  it('is downloaded to the download directory when it was in the publish directory', async () => {
    const { update, file } = await receive(config.publishDir);
    rmSync(file);
    await pass();
    expect((await torrentOf(update))?.downloadDir).toBe(config.downloadDir);
  });

  it('is checked when it was deleted in part, and that part is downloaded', async () => {
    const { update, file } = await receive();
    await side.apply();
    truncateSync(file, 200_000);
    await pass();
    const torrent = await waitFor('it is a download again', async () => {
      const found = await torrentOf(update);
      return found?.status === 'downloading' && found.percentDone < 1 ? found : undefined;
    });
    expect(torrent.percentDone).toBeGreaterThan(0.5);
  });
});

describe('a torrent that no update refers to any more', () => {
  it('is removed with its data, and then its records', async () => {
    config.keepVersions = 1;
    const { update: old, file } = await receive();
    await side.apply();
    const { update: next } = await receive();
    // Until the next one is applied, it is what a roll-back would need.
    expect(await torrentOf(old)).toBeDefined();
    await side.apply();
    await pass();
    expect(await torrentOf(old)).toBeUndefined();
    expect(existsSync(file)).toBe(false);
    await pass();
    for (const name of ['announcements', 'updates', 'torrents'])
      expect(readdirSync(join(config.stateDir, name)).join()).not.toContain(String(old.version));
    expect(stateOf(next)).toBe('COMPLETE');
  });

  it('is removed although a crash has made the daemon forget it', async () => {
    const { update: old, file } = await receive();
    await crash(forgetAll);
    await receive();
    await pass();
    expect(existsSync(file)).toBe(false);
    expect(stateOf(old)).toBeUndefined();
  });
});
