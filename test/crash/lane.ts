import { type ChildProcess, spawn } from 'node:child_process';
import { lstatSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  connectTransmission,
  type TransmissionClient,
} from '../../lib/daemons/transmission/client.ts';
import { programArgv } from '../support/run/program.ts';
import { waitFor } from '../support/run/wait-for.ts';
import type { CrashCase, Prepared } from './cases.ts';
import { type CrashNode, makeCrashNode } from './crash-node.ts';
import type { Ending, Program } from './strace.ts';

/** Time that advance's background tasks may go on without any effect before they are ended, as by a restart. */
const quietMs = 900;
/** Limit of a reconcile: after it only background tasks go on, which may be lost. */
const maxReconcileMs = 60_000;
/** Limit of a reconcile that has nothing to do, which shows nothing until its background tasks are over. */
const maxIdleMs = 4000;
const pollMs = 40;

/** A place where one program is run at a time, with a node of its own and, where needed, a daemon. */
export interface Lane {
  directory: string;
  dist: string;
  /** Prepares a case, and keeps the state to come back to. */
  begin(crashCase: CrashCase): Promise<Scene>;
  end(): void;
}

/** A case that is ready to be run, any number of times. */
export interface Scene {
  node: CrashNode;
  prepared: Prepared;
  program: Program;
  /** Exit status of the program without an interruption. */
  usualStatus: number | null;
  /** File for the output of strace. */
  trace: string;
  transmission: TransmissionClient | undefined;
  /** Brings files and daemon back into the state before. */
  restore(): Promise<void>;
  /** Runs a program of dist/ without interruption. */
  run(program: string, env?: Record<string, string>, input?: string): Promise<Ending>;
  /** Runs it to its very end, background tasks included. */
  runPatiently(program: string): Promise<Ending>;
}

/** Makes a lane below `directory`, which should be on a tmpfs. */
export function makeLane(directory: string, dist: string): Lane {
  let daemon: { child: ChildProcess; client: TransmissionClient; port: number } | undefined;
  const nodeDirectory = join(directory, 'node');
  const saved = join(directory, 'saved');
  mkdirSync(directory, { recursive: true });
  // An agent in a fleet of one: there is nobody to catch up by.
  const serf = join(directory, 'serf');
  const answers = `members) echo '{"members":null}' ;; info) echo '{"agent":{"name":"lone"}}' ;;`;
  writeFileSync(serf, `#!/bin/sh\ncase "$1" in ${answers} esac\n`, { mode: 0o755 });
  return {
    ...{ directory, dist },
    async begin(crashCase) {
      if (crashCase.needsDaemon === true) daemon ??= await startDaemon(directory);
      const { port } = daemon ?? { port: 1 };
      // Nothing listens on port 1: this daemon is down.
      const url = `http://127.0.0.1:${crashCase.needsDaemon === true ? port : 1}/transmission/rpc`;
      const node = makeCrashNode(nodeDirectory, dist, {
        transmission: { url, credentialsFile: null, timeoutSeconds: 10 },
        serf: {
          ...{ command: serf, rpcAddress: '127.0.0.1:7373' },
          ...{ rpcAuthFile: null, timeoutSeconds: 2, maxPayloadChars: 468 },
        },
      });
      const prepared = crashCase.prepare(node);
      rmSync(saved, { recursive: true, force: true });
      await copy(nodeDirectory, saved);
      const env = {
        PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
        P2P_UPDATE_CONFIG: node.configFile,
      };
      const client = crashCase.needsDaemon === true ? daemon?.client : undefined;
      return {
        ...{ node, prepared, transmission: client, trace: join(directory, 'trace') },
        usualStatus: 0,
        program: {
          argv: programArgv(prepared.program, dist),
          env: { ...env, ...prepared.env },
          input: prepared.input ?? '',
          directory: nodeDirectory,
          quietMs: prepared.program.endsWith(' reconcile') ? quietMs : undefined,
        },
        async restore() {
          if (client !== undefined) await forgetAll(client);
          rmSync(nodeDirectory, { recursive: true, force: true });
          await copy(saved, nodeDirectory);
          if (client !== undefined) await prepared.arrange?.(client);
        },
        run: (program, more = {}, input = '') =>
          runPlain(
            programArgv(program, dist),
            { ...env, ...more },
            input,
            client === undefined ? undefined : () => describeWork(node),
          ),
        runPatiently: (program) => runPlain(programArgv(program, dist), env, ''),
      };
    },
    end() {
      daemon?.child.kill('SIGKILL');
    },
  };
}

/** cp(1) keeps times, modes and links, and is quicker than a copy in JavaScript. */
async function copy(from: string, to: string): Promise<void> {
  const { status, stderr } = await runPlain(['cp', '-a', from, to], { PATH: '/usr/bin:/bin' }, '');
  if (status !== 0) throw new Error(stderr);
}

function runPlain(
  argv: readonly string[],
  env: Record<string, string>,
  input: string,
  look?: () => string,
): Promise<Ending> {
  const [command = '', ...args] = argv;
  const child = spawn(command, args, { env, cwd: '/', stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    let wasEnded = false;
    const startedAt = performance.now();
    let changedAt: number | undefined;
    let seen = look?.();
    const timer = setInterval(() => {
      const now = performance.now();
      const sight = look?.();
      if (sight !== seen) changedAt = now;
      seen = sight;
      const isQuiet = now - (changedAt ?? startedAt + maxIdleMs) > quietMs;
      if (now - startedAt < maxReconcileMs && (look === undefined || !isQuiet)) return;
      wasEnded = true;
      child.kill('SIGKILL');
    }, pollMs);
    child.on('error', reject);
    child.on('close', (status) => {
      clearInterval(timer);
      resolve({ status, stderr, calls: [], wasEnded });
    });
  });
}

/** Times of the records and logs, which show the progress of a reconcile. */
function describeWork({ config }: CrashNode): string {
  const { stateDir, applyDir } = config;
  return [stateDir, applyDir]
    .flatMap((directory) =>
      ['events.log', 'updates', 'outcomes', 'announcements', 'complete', 'torrents'].map((name) =>
        String(lstatSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs),
      ),
    )
    .join(' ');
}

async function forgetAll(client: TransmissionClient): Promise<void> {
  for (const { infoHash } of await client.list())
    await client.remove(infoHash, { deleteData: false });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** A real transmission-daemon without a login, peers or a hook, which may be lost. */
async function startDaemon(
  directory: string,
): Promise<{ child: ChildProcess; client: TransmissionClient; port: number }> {
  const [port, peerPort] = [await freePort(), await freePort()];
  const configDir = join(directory, 'transmission');
  mkdirSync(configDir, { recursive: true });
  const settings = {
    ...{ 'rpc-port': port, 'rpc-bind-address': '127.0.0.1', 'rpc-authentication-required': false },
    ...{ 'rpc-whitelist-enabled': false, 'peer-port': peerPort, 'port-forwarding-enabled': false },
    ...{ 'dht-enabled': false, 'lpd-enabled': false, 'download-queue-enabled': false },
    ...{ 'download-dir': join(directory, 'node', 'downloads'), preallocation: 0 },
  };
  writeFileSync(join(configDir, 'settings.json'), JSON.stringify(settings));
  const argv = ['--foreground', '--config-dir', configDir, '--log-error'];
  const child = spawn('transmission-daemon', argv, { stdio: 'ignore', cwd: '/' });
  const url = `http://127.0.0.1:${port}/transmission/rpc`;
  const client = connectTransmission({ url, credentialsFile: null, timeoutSeconds: 5 });
  await waitFor('Transmission answers', async () => {
    await sleep(50);
    return client.list().then(
      () => true,
      () => false,
    );
  });
  return { child, client, port };
}
