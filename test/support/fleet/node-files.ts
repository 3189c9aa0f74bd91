import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { shellCommand } from '../../../lib/command-hint.ts';
import { type Config, parseConfig } from '../../../lib/config.ts';
import { repository } from '../run/repository.ts';
import type { Place } from './network.ts';

/** Secrets that the nodes of one fleet share. */
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
  /** PEM texts of the private root keys. */
  rootKeys: readonly string[];
  /** The addresses of the fleet. */
  join: readonly string[];
  config: Partial<Config>;
  serf: Record<string, unknown>;
  /** Whether members that join are noticed. */
  joins: boolean;
  /** `given`: Puppet reads few facts from a file, and does not collect them. */
  facts: 'collected' | 'given';
  /** Wraps the command of a daemon, such as `n1-serf`. */
  daemonCommand: (command: readonly string[], name: string) => readonly string[];
}

/** Writes everything below etc/, and makes the directories that the configuration names. */
export function writeConfig(settings: NodeSettings): Config {
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
  settings.rootKeys.forEach((pem, index) => {
    writeFileSync(at('etc', `root-${index + 1}.pem`), pem, secret);
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
    nodeName: settings.name,
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
  // In a user namespace there is one user, whom Puppet could not give its files away from.
  const puppetConf = ['[main]', 'manage_internal_file_permissions = false'];
  if (settings.facts === 'given') {
    puppetConf.push(givenFactsConf(settings.name));
    writeGivenFacts(varDir, settings.name);
  }
  writeFileSync(join(confDir, 'puppet.conf'), `${puppetConf.join('\n')}\n`);
  writeFileSync(at('etc', 'config.json'), JSON.stringify(config, null, 2));
  return config;
}

/** Lines of puppet.conf by which Puppet reads the facts that {@link writeGivenFacts} wrote. */
export function givenFactsConf(name: string): string {
  return `facts_terminus = yaml\ncertname = ${name}\n`;
}

/** Writes the facts of a node below Puppet's vardir, as its yaml terminus reads them. */
export function writeGivenFacts(varDir: string, name: string): void {
  const directory = join(varDir, 'yaml', 'facts');
  mkdirSync(directory, { recursive: true });
  const lines = [
    ...['--- !ruby/object:Puppet::Node::Facts', `name: ${name}`, 'values:'],
    ...['  os:', '    name: Debian', '    family: Debian', ''],
  ];
  writeFileSync(join(directory, `${name}.yaml`), lines.join('\n'));
}

/** Writes Serf's configuration: the repository's serf.json with this node's paths, and the secrets. */
export function writeSerfConfig({
  name,
  place,
  directory,
  secrets,
  join: known,
  serf,
  joins,
}: NodeSettings): void {
  const sample = readFileSync(join(repository, 'serf.json'), 'utf8');
  const stateDir = join(directory, 'serf-state');
  const configDir = join(directory, 'serf');
  mkdirSync(stateDir);
  mkdirSync(configDir);
  const settings = {
    ...(JSON.parse(sample) as { event_handlers: string[] }),
    node_name: name,
    bind: `${isIPv6(place.address) ? `[${place.address}]` : place.address}:7946`,
    snapshot_path: join(stateDir, 'serf.snapshot'),
    retry_join: known,
    // The sample's 30 s is for a fleet that stays up.
    retry_interval: '1s',
  };
  const isWanted = (handler: string): boolean => joins || !handler.startsWith('member-join=');
  settings.event_handlers = settings.event_handlers.filter(isWanted).map((handler) =>
    // A shell runs it.
    handler.replace(
      /=\/opt\/p2p-update\/(\S+)/,
      (_, path: string) => `=${shellCommand(join(repository, path))}`,
    ),
  );
  writeFileSync(join(configDir, '10-serf.json'), JSON.stringify({ ...settings, ...serf }, null, 2));
  const keys = { encrypt_key: secrets.encryptKey, rpc_auth: secrets.rpcKey };
  writeFileSync(join(configDir, '20-secrets.json'), JSON.stringify(keys), { mode: 0o600 });
}

/** Writes the sample settings of docs/ with this node's paths and password. */
export function writeTransmissionSettings(
  { directory, secrets }: NodeSettings,
  config: Config,
): void {
  const configDir = join(directory, 'transmission');
  mkdirSync(configDir);
  const sample = readFileSync(join(repository, 'docs', 'transmission-settings.json'), 'utf8');
  const settings = {
    ...(JSON.parse(sample) as Record<string, unknown>),
    'download-dir': config.downloadDir,
    // A guard that 3.00 always has, and 4.1 when it is told to.
    'anti-brute-force-enabled': true,
    'message-level': 2,
    'rpc-password': secrets.rpcPassword,
    'script-torrent-done-filename': join(repository, 'dist', 'handlers', 'transmission-done.cjs'),
  };
  writeFileSync(join(configDir, 'settings.json'), JSON.stringify(settings, null, 2), {
    mode: 0o600,
  });
}
