import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, runSync } from '../support/run/command.ts';
import { Machine, type MachineWish, type Site } from './machine.ts';

const bridge = 'machines';
const prefix = '10.77.0.';

/** Directories of the machines' files, made by main.ts. */
export interface Places {
  /** Machines write here; removed at the end. */
  directory: string;
  /** A cgroup of the second version, for theirs; removed at the end. */
  cgroup: string;
  /** A Debian without any of p2p-update's dependencies; their packages are downloaded. */
  bare: string;
  /** Layer that their installation adds to that. */
  installed: string;
}

/** A private network of machines. Lives in test/support/run/sandbox.sh, with which all of it ends. */
export class Lab implements Places, Site {
  readonly directory: string;
  readonly cgroup: string;
  readonly bare: string;
  readonly installed: string;
  readonly #machines: Machine[] = [];

  constructor({ directory, cgroup, bare, installed }: Places) {
    if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside')
      throw new Error('machines are made in the sandbox only: npm run test:machines');
    this.directory = directory;
    this.cgroup = cgroup;
    this.bare = bare;
    this.installed = installed;
    mkdirSync(cgroup, { recursive: true });
    this.host('ip', 'link', 'add', bridge, 'type', 'bridge');
    this.host('ip', 'link', 'set', bridge, 'up');
  }

  /** Makes a machine, which is off. */
  make(name: string, wish: Partial<Omit<MachineWish, 'name' | 'address'>> = {}): Machine {
    const address = `${prefix}${this.#machines.length + 1}`;
    const lower = [this.installed, this.bare];
    const machine = new Machine(this, { name, address, lower, ...wish });
    this.#machines.push(machine);
    const port = this.portOf(machine);
    const at = ['-n', name];
    this.host('ip', 'netns', 'add', name);
    this.host(
      ...['ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name],
    );
    this.host('ip', 'link', 'set', port, 'master', bridge, 'up');
    this.host('ip', ...at, 'link', 'set', 'lo', 'up');
    this.host('ip', ...at, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    this.host('ip', ...at, 'link', 'set', 'eth0', 'up');
    // Facter asks a cloud's metadata server: it is refused at once where there is no route to it.
    this.host('ip', ...at, 'route', 'add', 'unreachable', 'default', 'metric', '4096');
    return machine;
  }

  /** Limits what a machine is sent, in Mbit/s; null: no limit any more. */
  limit(machine: Machine, megabits: number | null): void {
    const port = this.portOf(machine);
    if (megabits === null) runSync(['tc', 'qdisc', 'delete', 'dev', port, 'root']);
    else
      this.host(
        ...['tc', 'qdisc', 'replace', 'dev', port, 'root', 'tbf', 'rate', `${megabits}mbit`],
        ...['burst', '32kb', 'latency', '400ms'],
      );
  }

  /** Takes a machine's cable out, or puts it in again. */
  plug(machine: Machine, isIn: boolean): void {
    this.host('ip', 'link', 'set', this.portOf(machine), isIn ? 'up' : 'down');
  }

  namespaceOf({ name }: { name: string }): string {
    return join('/run/netns', name);
  }

  /** Runs a command beside the machines; throws unless it ends with 0. */
  host(...argv: string[]): string {
    return mustRun(argv);
  }

  /** Cuts the power of all, but for some. */
  async end(except: readonly Machine[] = []): Promise<void> {
    const others = this.#machines.filter((machine) => !except.includes(machine));
    await Promise.all(others.map((machine) => machine.cutPower()));
  }

  private portOf({ name }: Machine): string {
    return `m-${name}`;
  }
}
