import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type UpdateId, updateKey } from '../../../lib/announcement/update.ts';
import { parseConfig } from '../../../lib/config.ts';
import { parseMembers } from '../../../lib/daemons/serf/members.ts';
import type { Progress } from '../../../lib/state/progress.ts';
import { decodeRecord } from '../../../lib/system/record.ts';
import { formatKeySet } from '../../../lib/trust/key-set.ts';
import { makeKeys, pemOf, type TestKeys } from '../fleet/announce.ts';
import { layNetwork } from '../fleet/network.ts';
import { givenFactsConf, writeGivenFacts } from '../fleet/node-files.ts';
import { repository } from '../run/repository.ts';
import { waitFor } from '../run/wait-for.ts';
import { journalOf, ServiceManager } from './manager.ts';
import { codeDir, SplitNode, systemPath } from './node.ts';
import { whyNoImage } from './setup-image.ts';

export const stateDir = '/var/lib/p2p-update/state';
export const applyDir = '/var/lib/p2p-update/apply';
export const downloadDir = parseConfig('{}', '').downloadDir;
/** The operator, with his files on the node where he submits. */
export const operator = 'alice';
const publishDir = '/var/lib/p2p-update/publish';
/** The program, by its path on a node. */
export const program = `${codeDir}/dist/p2p-update.cjs`;

/** A production node: the machine, and a stand-in for its systemd. */
export interface ProductionNode {
  machine: SplitNode;
  manager: ServiceManager;
}

export interface SplitFleet {
  nodes: ProductionNode[];
  keys: TestKeys;
  waitFor<T>(
    description: string,
    condition: () => T | Promise<T>,
    timeoutMs?: number,
  ): Promise<Exclude<T, false | undefined>>;
  stop(): Promise<void>;
}

/** Why machines with users of their own cannot be had here; undefined when they can. */
export function whyNoUsers(): string | undefined {
  if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside') return 'needs test/support/run/sandbox.sh';
  const reason = whyNoImage();
  if (reason !== undefined) return reason;
  const foreign = ['', 'dist', 'scripts', 'node_modules', 'dist/commands/reconcile.cjs']
    .map((name) => join(repository, name))
    .find((path) => statSync(path).uid !== 0);
  return foreign === undefined ? undefined : `${foreign} does not belong to root`;
}

/**
 * Brings up production nodes: machines with the three users, set up by p2p-update setup with the
 * default paths, with the shipped settings and the edits of the guides.
 *
 * @param daemons whether to start Serf, Transmission and the units
 */
export async function startSplitFleet(count: number, daemons = true): Promise<SplitFleet> {
  const names = Array.from({ length: count }, (_, index) => `n${index + 1}`);
  const network = layNetwork(names, 1);
  const directory = mkdtempSync(join(tmpdir(), 'p2p split-'));
  const nodes: ProductionNode[] = [];
  const stop = async (): Promise<void> => {
    const ends = nodes.map(({ manager }) => manager.disable());
    network.remove();
    await Promise.all(ends);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const keys = makeKeys('test-fleet');
    const encryptKey = randomBytes(32).toString('base64');
    const addresses = network.places.map(({ address }) => address);
    await Promise.all(
      network.places.map(async (place, index) => {
        const name = names[index] ?? '';
        const machine = await SplitNode.boot(name, place, join(directory, name));
        // Backup only: a minute of the timer is long against a test, and short against a fault.
        nodes[index] = { machine, manager: new ServiceManager(machine, 10_000) };
        await install(machine, keys, { encryptKey, addresses });
      }),
    );
    const explain = (): string => nodes.map(({ machine }) => journalOf(machine)).join('\n');
    const fleet: SplitFleet = {
      nodes,
      keys,
      waitFor: (description, condition, timeoutMs) =>
        waitFor(description, condition, timeoutMs, explain),
      stop,
    };
    if (daemons) await startDaemons(fleet);
    return fleet;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** docs/setup.md, docs/serf.md and docs/transmission.md, followed by an administrator. */
async function install(
  machine: SplitNode,
  keys: TestKeys,
  { encryptKey, addresses }: { encryptKey: string; addresses: string[] },
): Promise<void> {
  const keySetFile = '/root/keyset.txt';
  writeFileSync(machine.at(keySetFile), formatKeySet(keys.keySet));
  await setUp(machine, '--systemd', '--keyset', keySetFile, '--tag', 'role=web');
  const place = (path: string, text: string, mode: string, owner: string): Promise<void> =>
    must(machine, `install -m ${mode} -o ${owner} /dev/null ${path} && cat > ${path}`, text);
  const shipped = (name: string): object =>
    JSON.parse(readFileSync(join(repository, name), 'utf8')) as object;
  const [password, rpcKey] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];

  const secret = 'root -g p2p-update';
  const serf = { ...shipped('serf.json'), retry_join: addresses, retry_interval: '1s' };
  await place('/etc/serf/10-p2p-update.json', JSON.stringify(serf), '644', 'root');
  const serfKeys = JSON.stringify({ encrypt_key: encryptKey, rpc_auth: rpcKey });
  await place('/etc/serf/20-keys.json', serfKeys, '640', secret);
  await place('/etc/p2p-update/serf-rpc.key', `${rpcKey}\n`, '640', secret);
  const settings = { ...shipped('docs/transmission-settings.json'), 'rpc-password': password };
  const daemon = 'debian-transmission -g debian-transmission';
  await place('/etc/transmission-daemon/settings.json', JSON.stringify(settings), '600', daemon);
  const login = JSON.stringify({ username: 'p2p-update', password });
  await place('/etc/p2p-update/transmission.json', login, '640', secret);

  await must(
    machine,
    `useradd --create-home --shell /bin/bash ${operator} && adduser --quiet ${operator} p2p-update
     install -d -m 755 -o ${operator} ${publishDir}`,
  );
  const [releaseKey] = keys.releaseKeys.map(pemOf);
  await place(`/home/${operator}/release.pem`, releaseKey ?? '', '600', operator);
  const config = {
    ...(JSON.parse(machine.read('/etc/p2p-update/config.json')) as object),
    serf: { rpcAuthFile: '/etc/p2p-update/serf-rpc.key' },
    signingKeyFiles: [`/home/${operator}/release.pem`],
    // Facts of other modules, stdlib's above all, would add seconds to each run.
    puppet: { modulePath: [] },
  };
  await place('/etc/p2p-update/config.json', JSON.stringify(config), '644', 'root');
  // Collected anew they are a third of each run.
  const { confDir, varDir } = parseConfig('{}', '').puppet;
  writeFileSync(machine.at(`${confDir}/puppet.conf`), `[main]\n${givenFactsConf(machine.name)}`);
  writeGivenFacts(machine.at(varDir), machine.name);
}

/** Runs p2p-update setup as root of a machine. */
export async function setUp(machine: SplitNode, ...args: string[]): Promise<string> {
  const command = [program, 'setup', ...args];
  const { status, stdout, stderr } = await machine.runAs('root', command);
  if (status !== 0) throw new Error(`setup: ${status}: ${stderr}`);
  return stdout;
}

async function must(machine: SplitNode, script: string, input = ''): Promise<void> {
  const { status, stderr } = await machine.shell('root', script, { input });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
}

async function startDaemons(fleet: SplitFleet): Promise<void> {
  const { nodes } = fleet;
  await Promise.all(
    nodes.flatMap(({ manager }) => [
      manager.startDaemon('serf.service', 7373),
      manager.startDaemon('transmission-daemon.service', 9091),
    ]),
  );
  await fleet.waitFor('every agent knows every node', async () => {
    const known = await Promise.all(nodes.map(({ machine }) => aliveMembers(machine)));
    return known.every((members) => members === nodes.length);
  });
  for (const { manager } of nodes)
    for (const name of ['p2p-update-advance', 'p2p-update-apply']) manager.enable(name);
}

async function aliveMembers(machine: SplitNode): Promise<number> {
  const key = machine.read('/etc/p2p-update/serf-rpc.key').trim();
  const env = { PATH: systemPath, SERF_RPC_AUTH: key };
  const { status, stdout } = await machine.runAs(
    'p2p-update',
    ['serf', 'members', '-format', 'json'],
    { env },
  );
  if (status !== 0) return 0;
  return parseMembers(JSON.parse(stdout)).filter((member) => member.status === 'alive').length;
}

/** Output of `submit --json`, run by the operator. */
export async function submitAs(
  { machine }: ProductionNode,
  file: string,
  ...args: string[]
): Promise<{
  channel: string;
  version: number;
  payload: string;
  infoHash: string;
  sha256: string;
}> {
  const command = [program, 'submit', file, '--json', ...args];
  const { status, stdout, stderr } = await machine.runAs(operator, command);
  if (status !== 0 || stderr !== '') throw new Error(`submit: ${status}: ${stderr}`);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Awaited<
    ReturnType<typeof submitAs>
  >;
}

/** Outcome of an update on a node; undefined when its apply side did not begin. */
export function outcomeOn({ machine }: ProductionNode, id: UpdateId): Progress | undefined {
  const file = `${applyDir}/outcomes/${updateKey(id)}`;
  if (!existsSync(machine.at(file))) return undefined;
  return decodeRecord(machine.read(file), file)?.value as Progress | undefined;
}

let manifests = 0;
/** Submits a manifest on a node, as its operator. */
export function submitManifest(
  node: ProductionNode,
  channel: string,
  manifest: string,
): ReturnType<typeof submitAs> {
  manifests += 1;
  const file = `/home/${operator}/site-${manifests}.pp`;
  writeFileSync(node.machine.at(file), manifest);
  return submitAs(node, file, '--channel', channel);
}

/** A manifest that writes a file of root's. */
export const writing = (path: string, text: string): string =>
  `file { '${path}': content => '${text}' }\n`;

/** Waits until every node has applied an update. */
export function untilApplied(fleet: SplitFleet, update: UpdateId): Promise<boolean> {
  return fleet.waitFor(`${update.channel}@${update.version} is applied by every node`, () =>
    fleet.nodes.every((node) => outcomeOn(node, update)?.state === 'APPLIED'),
  );
}
