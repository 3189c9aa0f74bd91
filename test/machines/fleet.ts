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
  infoHash: string | undefined;
  channel: string | undefined;
  version: number | undefined;
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
let fleet: Promise<MachineFleet> | undefined;

/** The fleet of this run, set up at the first call. */
export function theFleet(): Promise<MachineFleet> {
  fleet ??= setUpFleet();
  return fleet;
}

async function setUpFleet(): Promise<MachineFleet> {
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
export async function submit(machine: Machine, ...args: string[]): Promise<Sent> {
  const result = await machine.run(['p2p-update', 'submit', '--json', ...args], {
    timeoutMs: 900_000,
  });
  const last = result.stdout.trim().split('\n').at(-1) ?? '';
  const answer = (last.startsWith('{') ? JSON.parse(last) : {}) as Partial<Sent>;
  return { ...result, infoHash: answer.infoHash, channel: answer.channel, version: answer.version };
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
