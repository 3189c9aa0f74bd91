import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Config, parseConfig } from '../../lib/config.ts';
import { eventLogFile, type LoggedEvent } from '../../lib/event-log.ts';
import { type Member, parseMembers } from '../../lib/serf.ts';
import { Daemon, tail } from './daemon.ts';
import type { Place } from './network.ts';

export const repository = join(import.meta.dirname, '..', '..');

/** What the nodes of one fleet share. */
export interface FleetSecrets {
  /** Serf's encrypt_key. */
  encryptKey: string;
  /** Serf's rpc_auth. */
  rpcKey: string;
  /** Transmission's. */
  rpcPassword: string;
  keySet: string;
}

export interface NodeSettings {
  name: string;
  place: Place;
  /** Of this node alone; everything it reads and writes is below. */
  directory: string;
  secrets: FleetSecrets;
  /** PEM texts of the private release keys. */
  signingKeys: readonly string[];
  /** The addresses of the fleet. */
  join: readonly string[];
  config: Partial<Config>;
  serf: Record<string, unknown>;
}

/** A line of events.log. */
export interface FleetEvent extends LoggedEvent {
  /** ISO 8601, milliseconds. */
  time: string;
  ms: number;
}

export interface RunResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string | Buffer;
  /** Added to the node's own environment. */
  env?: Record<string, string>;
  /** After this time the command and its children are ended, and that is an error. */
  timeoutMs?: number;
}

/** One machine of a test fleet: its files, its daemons, and a way to run commands on it. */
export class FleetNode {
  readonly name: string;
  readonly address: string;
  readonly directory: string;
  readonly configFile: string;
  readonly config: Config;
  /** The environment of its daemons and commands, complete. */
  readonly env: Record<string, string>;
  readonly serf: Daemon;
  readonly transmission: Daemon;
  readonly namespace: string;
  readonly #rpcKey: string;

  constructor(settings: NodeSettings) {
    const { name, place, directory, secrets } = settings;
    this.name = name;
    this.address = place.address;
    this.directory = directory;
    this.namespace = place.namespace;
    this.#rpcKey = secrets.rpcKey;
    this.config = writeConfig(settings);
    this.configFile = join(directory, 'etc', 'config.json');
    this.env = {
      PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/puppetlabs/bin`,
      HOME: join(directory, 'home'),
      P2P_UPDATE_CONFIG: this.configFile,
    };
    writeSerfConfig(settings);
    this.serf = new Daemon({
      namespace: place.namespace,
      command: ['serf', 'agent', '-config-dir', join(directory, 'serf')],
      env: this.env,
      logFile: join(directory, 'serf.log'),
      port: 7373,
    });
    writeTransmissionSettings(settings, this.config);
    this.transmission = new Daemon({
      namespace: place.namespace,
      command: [
        'transmission-daemon',
        '--foreground',
        '--config-dir',
        join(directory, 'transmission'),
      ],
      env: this.env,
      logFile: join(directory, 'transmission.log'),
      port: 9091,
    });
  }

  /** Runs a command on this node, with the repository as its working directory. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { input = '', env = {}, timeoutMs = 60_000 } = options;
    return new Promise((resolve, reject) => {
      const child = spawn('ip', ['netns', 'exec', this.namespace, ...argv], {
        cwd: repository,
        env: { ...this.env, ...env },
        // A group of its own, to be ended as a whole.
        detached: true,
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      const timer = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        const output = Buffer.concat([...stdout, ...stderr]).toString();
        reject(
          new Error(`${this.name}: ${argv.join(' ')}: no end after ${timeoutMs} ms\n${output}`),
        );
      }, timeoutMs);
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
      // A command that does not read its input is no fault here.
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
      child.on('error', reject);
      child.on('close', (status) => {
        clearTimeout(timer);
        resolve({
          status,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        });
      });
    });
  }

  /** Runs a script of ours from scripts/, as an operator on this node would. */
  script(name: string, args: readonly string[], options?: RunOptions): Promise<RunResult> {
    const tsx = join(repository, 'node_modules', '.bin', 'tsx');
    return this.run([tsx, join(repository, 'scripts', name), ...args], options);
  }

  /** Runs Serf's own command against this node's agent. */
  serfCommand(args: readonly string[]): Promise<RunResult> {
    return this.run(['serf', ...args], { env: { SERF_RPC_AUTH: this.#rpcKey } });
  }

  /** The members that this node's agent holds to be alive; empty while the agent is down. */
  async aliveMembers(): Promise<Member[]> {
    const { status, stdout } = await this.serfCommand(['members', '-format', 'json']);
    if (status !== 0) return [];
    return parseMembers(JSON.parse(stdout)).filter((member) => member.status === 'alive');
  }

  /** What this node has logged so far. */
  events(): FleetEvent[] {
    let text: string;
    try {
      text = readFileSync(eventLogFile(this.config.stateDir), 'utf8');
    } catch {
      return [];
    }
    const complete = text.slice(0, text.lastIndexOf('\n') + 1);
    return complete
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as FleetEvent);
  }

  /** The tail of every log: its daemons', events.log, and one for each run of Puppet. */
  logs(): string {
    const { stateDir, applyDir } = this.config;
    const runs = join(applyDir, 'runs');
    return [
      this.serf.logFile,
      this.transmission.logFile,
      eventLogFile(stateDir),
      ...(existsSync(runs) ? readdirSync(runs).map((name) => join(runs, name)) : []),
    ]
      .filter((file) => existsSync(file))
      .map((file) => tail(file, 10))
      .join('\n');
  }
}

/** Writes everything below etc/, and makes the directories that the configuration names. */
function writeConfig(settings: NodeSettings): Config {
  const { directory, secrets } = settings;
  const at = (...parts: string[]): string => join(directory, ...parts);
  const secret = { mode: 0o600 };
  mkdirSync(at('etc'), { recursive: true });
  writeFileSync(at('etc', 'keyset.txt'), secrets.keySet);
  writeFileSync(at('etc', 'serf-rpc.key'), `${secrets.rpcKey}\n`, secret);
  const login = { username: 'p2p-update', password: secrets.rpcPassword };
  writeFileSync(at('etc', 'transmission.json'), JSON.stringify(login), secret);
  const signingKeyFiles = settings.signingKeys.map((pem, index) => {
    const file = at('etc', `release-${index + 1}.pem`);
    writeFileSync(file, pem, secret);
    return file;
  });
  const defaults = parseConfig('{}', 'the defaults');
  const config: Config = {
    ...defaults,
    stateDir: at('state'),
    applyDir: at('apply'),
    keySetFile: at('etc', 'keyset.txt'),
    signingKeyFiles,
    downloadDir: at('downloads'),
    publishDir: at('publish'),
    deliveryDir: at('delivery'),
    trigger: 'spawn',
    transmission: { ...defaults.transmission, credentialsFile: at('etc', 'transmission.json') },
    serf: { ...defaults.serf, rpcAuthFile: at('etc', 'serf-rpc.key') },
    puppet: {
      ...defaults.puppet,
      timeoutSeconds: 120,
      confDir: at('puppet', 'conf'),
      varDir: at('puppet', 'var'),
      moduleDir: at('puppet', 'modules'),
      // Facts of other modules, stdlib's above all, would add seconds to each run.
      modulePath: [],
    },
    ...settings.config,
  };
  const { stateDir, applyDir, downloadDir, publishDir, deliveryDir, puppet } = config;
  const { confDir, varDir, moduleDir } = puppet;
  for (const made of [
    stateDir,
    applyDir,
    downloadDir,
    publishDir,
    deliveryDir,
    confDir,
    varDir,
    moduleDir,
    at('home'),
  ]) {
    mkdirSync(made, { recursive: true });
  }
  writeFileSync(at('etc', 'config.json'), JSON.stringify(config, null, 2));
  return config;
}

/** Writes Serf's configuration: the repository's serf.json with this node's paths, and the secrets. */
function writeSerfConfig({
  name,
  place,
  directory,
  secrets,
  join: known,
  serf,
}: NodeSettings): void {
  const sample = readFileSync(join(repository, 'serf.json'), 'utf8');
  const stateDir = join(directory, 'serf-state');
  const configDir = join(directory, 'serf');
  mkdirSync(stateDir);
  mkdirSync(configDir);
  const settings = {
    ...(JSON.parse(sample) as { event_handlers: string[] }),
    node_name: name,
    bind: `${place.address}:7946`,
    snapshot_path: join(stateDir, 'serf.snapshot'),
    retry_join: known,
    // The sample's 30 s is for a fleet that stays up.
    retry_interval: '1s',
  };
  settings.event_handlers = settings.event_handlers.map((handler) =>
    // A shell runs it.
    handler.replace(
      /=\/opt\/p2p-update\/(\S+)/,
      (_, path: string) => `='${join(repository, path)}'`,
    ),
  );
  writeFileSync(join(configDir, '10-serf.json'), JSON.stringify({ ...settings, ...serf }, null, 2));
  const keys = { encrypt_key: secrets.encryptKey, rpc_auth: secrets.rpcKey };
  writeFileSync(join(configDir, '20-secrets.json'), JSON.stringify(keys), { mode: 0o600 });
}

function writeTransmissionSettings({ directory, secrets }: NodeSettings, config: Config): void {
  const configDir = join(directory, 'transmission');
  mkdirSync(configDir);
  const settings = {
    'dht-enabled': false,
    'download-dir': config.downloadDir,
    'download-queue-enabled': false,
    encryption: 0,
    'idle-seeding-limit-enabled': false,
    'lpd-enabled': true,
    'message-level': 2,
    'pex-enabled': true,
    'port-forwarding-enabled': false,
    'ratio-limit-enabled': false,
    'rpc-authentication-required': true,
    'rpc-bind-address': '127.0.0.1',
    'rpc-password': secrets.rpcPassword,
    'rpc-username': 'p2p-update',
    'rpc-whitelist': '127.0.0.1',
    'script-torrent-done-enabled': true,
    'script-torrent-done-filename': join(repository, 'dist', 'handlers', 'transmission-done.cjs'),
    'seed-queue-enabled': false,
    'upload-slots-per-torrent': 4,
  };
  writeFileSync(join(configDir, 'settings.json'), JSON.stringify(settings, null, 2), {
    mode: 0o600,
  });
}
