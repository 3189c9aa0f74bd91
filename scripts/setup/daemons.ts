import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, defaultConfigFile, hookFile, parseConfig } from '../../lib/config.ts';
import { gossipPort } from '../../lib/daemons/serf/ping.ts';
import { UpdateError } from '../../lib/errors.ts';
import { nodeUser, transmissionUser } from '../../lib/state/layout.ts';
import { isRecord } from '../../lib/system/json.ts';
import { debianPlaces } from '../doctor/file-checks.ts';
import type { Scheduler } from './arguments.ts';
import { readAs } from './as-user.ts';
import type { Fleet } from './fleet.ts';
import { type PlannedFile, publicFile, secretFile, type SettingsStep } from './plan.ts';
import type { Machine } from './rules.ts';
import { planSerf } from './serf-plan.ts';
import { serfDefaults } from './services.ts';
import { planTransmission } from './transmission-plan.ts';

/** Part of a set-up that is about Serf and Transmission. */
export interface DaemonsPlan {
  /** Members of config.json. */
  config: Record<string, unknown>;
  files: PlannedFile[];
  settings: SettingsStep | null;
  ports: { serf: number[]; transmission: number[] };
  /** Whether Serf's agent is told its address. */
  hasAddress: boolean;
}

export interface DaemonsWish {
  /** Null: the fleet, the keys and the members to join are as they are. */
  fleet: Pick<Fleet, 'gossipKey' | 'join'> | null;
  nodeName: string | null;
  address: string | null;
  scheduler: Scheduler;
  /** The code, as the machine sees it, and as this process does. */
  codeDir: string;
  ownDir: string;
  root: string;
}

const rpcKeyFile = '/etc/p2p-update/serf-rpc.key';
const credentialsFile = '/etc/p2p-update/transmission.json';
const secretBytes = 24;

/**
 * Plans the configuration of Serf and Transmission, with what is there: secrets are made once, and then kept.
 *
 * @throws UpdateError `configuration` for what a person wrote there and p2p-update cannot work with
 */
export function planDaemons(wish: DaemonsWish, machine: Machine): DaemonsPlan {
  const { root, ownDir, codeDir, scheduler } = wish;
  const configText = machine.read(defaultConfigFile) ?? '{}';
  const config = parseConfig(configText, defaultConfigFile);
  const written = JSON.parse(configText) as Record<string, unknown>;
  if (config.transmission.credentialsFile === null)
    throw new UpdateError(
      'configuration',
      `"transmission.credentialsFile" in ${defaultConfigFile} is null: the daemon would be open to every user`,
      { hint: `remove that line, then run setup again: the file is ${credentialsFile} then` },
    );
  const at = (path: string): string => (root === '/' ? path : join(root, path));
  const { settingsFile } = debianPlaces;
  const current = readAs(transmissionUser, at(settingsFile), machine);
  const transmission = planTransmission({
    sample: readJson(join(ownDir, 'docs', 'transmission-settings.json')),
    ...{ settings: current, settingsFile, config, written, hook: hookFile },
    credentials: machine.read(config.transmission.credentialsFile),
    credentialsFile: config.transmission.credentialsFile,
    makePassword: () => randomBytes(secretBytes).toString('base64url'),
  });
  const keyFile = config.serf.rpcAuthFile ?? rpcKeyFile;
  const serf = planSerf(
    {
      sample: serfSample(ownDir, codeDir),
      bt: String(transmission.peerPort),
      ...{ join: wish.fleet?.join ?? null, gossipKey: wish.fleet?.gossipKey ?? null },
      ...{ nodeName: wish.nodeName, address: wish.address, rpcAddress: config.serf.rpcAddress },
      rpcKey: machine.read(keyFile)?.replace(/\r?\n$/, ''),
      makeKey: () => randomBytes(32).toString('base64'),
    },
    machine,
  );
  const secret = (path: string, text: string): PlannedFile => ({
    path,
    text,
    ownership: secretFile,
  });
  return {
    config: {
      ...transmission.config,
      ...(config.serf.rpcAuthFile === null ? { serf: { rpcAuthFile: rpcKeyFile } } : {}),
    },
    files: [
      credentials(config, transmission.credentials, machine, secret),
      secret(keyFile, `${serf.rpcKey}\n`),
      ...serf.files,
      ...(scheduler === 'cron' ? [serfDefaultsFile(machine)] : []),
    ],
    settings:
      transmission.settings === null
        ? null
        : {
            kind: 'write-settings',
            path: settingsFile,
            user: transmissionUser,
            text: transmission.settings,
            old: current,
          },
    hasAddress: serf.hasAddress,
    ports: {
      serf: [gossipPort, portOf(config.serf.rpcAddress)],
      transmission: [transmission.peerPort, portOf(new URL(config.transmission.url).host)],
    },
  };
}

/** The credentials as a file, in the words that are there where they say the same. */
function credentials(
  { transmission }: Config,
  wanted: { username: string; password: string },
  machine: Machine,
  secret: (path: string, text: string) => PlannedFile,
): PlannedFile {
  const path = transmission.credentialsFile ?? credentialsFile;
  const text = machine.read(path);
  const known: unknown = text === undefined ? undefined : JSON.parse(text);
  const isSame =
    isRecord(known) &&
    known['username'] === wanted.username &&
    known['password'] === wanted.password;
  return secret(path, isSame && text !== undefined ? text : `${JSON.stringify(wanted)}\n`);
}

/** The user of Debian's init script, which runs the agent as another otherwise. */
function serfDefaultsFile({ read }: Machine): PlannedFile {
  const text = read(serfDefaults) ?? '';
  const lines = [`USER=${nodeUser}`, `GROUP=${nodeUser}`, 'umask 077'];
  const missing = lines.filter((line) => !text.split('\n').includes(line));
  const start = text === '' || text.endsWith('\n') ? text : `${text}\n`;
  // Of two lines the later one counts: it is a shell script.
  const added = missing.length === 0 ? '' : `${lines.join('\n')}\n`;
  return { path: serfDefaults, ownership: publicFile, text: start + added };
}

/** The shipped serf.json, with the programs of this installation. */
function serfSample(ownDir: string, codeDir: string): Record<string, unknown> {
  const sample = readJson(join(ownDir, 'serf.json'));
  const handlers = sample['event_handlers'];
  if (!Array.isArray(handlers)) throw new Error('serf.json has no handlers');
  return {
    ...sample,
    event_handlers: handlers.map((handler) =>
      String(handler).replace('=/opt/p2p-update/', () => `=${codeDir}/`),
    ),
  };
}

function readJson(file: string): Record<string, unknown> {
  const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (!isRecord(value)) throw new Error(`${file} is not a JSON object`);
  return value;
}

function portOf(address: string): number {
  return Number(/:(\d+)$/.exec(address)?.[1]);
}
