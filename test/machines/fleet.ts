import { appendFileSync, readFileSync } from 'node:fs';
import { waitFor } from '../support/run/wait-for.ts';
import { Lab } from './lab.ts';
import type { Machine } from './machine.ts';
import { readPlaces } from './places.ts';

export const packageFile = '/root/p2p-update.deb';
/** Outcome of `submit --json`. */
export interface Sent {
  status: number | null;
  stdout: string;
  stderr: string;
  /** The object that it prints; empty where it prints none. */
  answer: {
    channel?: string;
    version?: number;
    infoHash?: string;
    verdict?: string;
    nodes?: { name: string; member: string; outcome: string; reason: string }[];
  };
}

export interface Invitation {
  join: string[];
  token: string;
}

/** A fleet of machines that were set up as an operator does it. */
export interface MachineFleet {
  lab: Lab;
  nodes: [Machine, Machine, Machine];
  /** The first, which has the keys. */
  operator: Machine;
  invitation: Invitation;
}

const places = readPlaces();
/** Together half a minute. */
const slowMegabits = 2;
const slowBytes = 8 << 20;
const partBytes = 1 << 20;
/** Units that wake p2p-update. */
export const wakers = [
  ...['p2p-update-advance.path', 'p2p-update-advance.timer'],
  ...['p2p-update-apply.path', 'p2p-update-apply.timer'],
];

/** Boots three machines, and makes them nodes of a fleet as an operator does it. */
export async function setUpFleet(): Promise<MachineFleet> {
  const lab = new Lab(places);
  const nodes: MachineFleet['nodes'] = [
    lab.make('node-1'),
    lab.make('node-2'),
    lab.make('node-3', { diskMiB: 1024 }),
  ];
  await Promise.all(nodes.map((machine) => machine.boot()));
  await Promise.all(nodes.map(installPackage));
  const [operator, ...others] = nodes;
  const invitation = await timed('newFleetSeconds', () => startFleet(operator));
  for (const machine of others)
    await timed('joinSeconds', () => joinFleet(machine, invitation, ['--tag', 'role=web']));
  return { lab, nodes, operator, invitation };
}

/** Installs the package by apt, as the guide says. */
export async function installPackage(machine: Machine): Promise<void> {
  await machine.write(packageFile, readFileSync(places.deb));
  await machine.mustRun(['apt-get', 'install', '--yes', packageFile], { timeoutMs: 300_000 });
}

/** Makes the first machine of a fleet a node. */
async function startFleet(machine: Machine): Promise<Invitation> {
  const command = ['p2p-update', 'setup', '--new-fleet', 'machines', '--yes', '--json'];
  const answer = JSON.parse(await machine.mustRun(command)) as { invite: Invitation };
  return answer.invite;
}

/** Makes a further machine a node. */
export async function joinFleet(
  machine: Machine,
  { join, token }: Invitation,
  options: readonly string[] = [],
): Promise<void> {
  const members = join.flatMap((address) => ['--join', address]);
  await machine.mustRun(['p2p-update', 'setup', ...members, '--token', '-', '--yes', ...options], {
    input: `${token}\n`,
  });
}

/** Submits as root on the first machine. */
export async function submit({ operator }: MachineFleet, ...args: string[]): Promise<Sent> {
  const result = await operator.run(['p2p-update', 'submit', '--json', ...args], {
    timeoutMs: 900_000,
  });
  const last = result.stdout.trim().split('\n').at(-1) ?? '';
  return { ...result, answer: (last.startsWith('{') ? JSON.parse(last) : {}) as Sent['answer'] };
}

/** Submits, waits for every target, and throws unless all have applied it. */
export async function submitAndWait(fleet: MachineFleet, ...args: string[]): Promise<Sent> {
  const sent = await submit(fleet, '--wait', ...args);
  if (sent.status !== 0)
    throw new Error(
      `submit ${args.join(' ')}: status ${sent.status ?? ''}\n${sent.stdout}${sent.stderr}`,
    );
  return sent;
}

/** Submits a manifest under a name that is its channel too, and returns while nodes take it. */
export async function submitManifest(
  fleet: MachineFleet,
  name: string,
  text: string,
  ...options: string[]
): Promise<Sent> {
  const file = `/root/${name}.pp`;
  await fleet.operator.write(file, text);
  const sent = await submit(fleet, '--channel', name, ...options, file);
  const hasFailed = sent.status !== 0 && !options.includes('--wait');
  if (hasFailed) throw new Error(`submit ${name}: ${sent.stdout}${sent.stderr}`);
  return sent;
}

/** Submits a file that takes one machine a while to download, and returns in the midst of that. */
export async function submitSlowly(
  fleet: MachineFleet,
  machine: Machine,
  name: string,
): Promise<Sent['answer']> {
  const received = async (): Promise<number> =>
    Number(await machine.read('/sys/class/net/eth0/statistics/rx_bytes'));
  fleet.lab.limit(machine, slowMegabits);
  const make = `head -c ${slowBytes} /dev/urandom >/root/${name}`;
  await fleet.operator.mustRun(['sh', '-c', make]);
  const before = await received();
  const { answer } = await submit(fleet, '--channel', name, `/root/${name}`);
  // Transmission writes nothing to the disk for a while.
  await waitFor(
    `${machine.name} is downloading ${name}`,
    async () => (await received()) > before + partBytes,
  );
  return answer;
}

/** A manifest that writes a file, takes its time on the nodes of one role, and writes another. */
export function slowManifest(name: string, seconds: number): string {
  return `file { '/root/${name}-began': content => 'yes' }
-> exec { '/bin/sleep ${seconds}': }
-> file { '/root/${name}-ended': content => 'yes' }
`;
}

/** Waits until every node of the fleet has applied the newest version of a channel. */
export async function waitUntilConverged(
  { operator }: MachineFleet,
  channel: string,
): Promise<void> {
  let stdout = '';
  await waitFor(
    `${channel} has converged`,
    async () => {
      const asked = ['p2p-update', 'status', '--channel', channel, '--json'];
      ({ stdout } = await operator.run(asked));
      return stdout.includes('"verdict":"converged","exitStatus":0');
    },
    300_000,
    () => stdout,
  );
}

/** Throws unless doctor finds a machine sound, and systemd has no failed unit on it. */
export async function requireSound(machine: Machine): Promise<void> {
  await waitFor(
    `${machine.name} is sound`,
    async () => {
      const { status } = await machine.run(['p2p-update', 'doctor', '--json']);
      return status === 0;
    },
    120_000,
  ).catch(async (cause: unknown) => {
    const { stdout } = await machine.run(['p2p-update', 'doctor']);
    throw new Error(`${machine.name} is not sound:\n${stdout}`, { cause });
  });
  const failed = await machine.mustRun(['systemctl', '--failed', '--no-legend', '--plain']);
  if (failed !== '') throw new Error(`${machine.name}: failed units:\n${failed}`);
}

/** Makes the fleet what the next scenario expects, after one that has failed. */
export async function restore({ lab, nodes }: MachineFleet): Promise<void> {
  await lab.end(nodes);
  for (const machine of nodes) {
    lab.limit(machine, null);
    lab.plug(machine, true);
    if (!machine.isUp) await machine.boot();
    await machine.run(['systemctl', 'start', ...wakers]);
  }
}

/** Waits for a file that an update places or writes. */
export function waitForFile(machine: Machine, path: string, text?: string): Promise<true> {
  return waitFor(
    `${machine.name} has ${path}`,
    async () => {
      const found = await machine.read(path);
      return found !== undefined && (text === undefined || found === text);
    },
    300_000,
  );
}

/** Takes the time of something, as a figure of the run. */
export async function timed<T>(name: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await work();
  const seconds = Number(((performance.now() - begin) / 1000).toFixed(1));
  appendFileSync(places.figures, `${JSON.stringify({ [name]: seconds })}\n`);
  return result;
}
