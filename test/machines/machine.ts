import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type CommandOptions, type CommandResult, run } from '../support/run/command.ts';
import { waitFor } from '../support/run/wait-for.ts';

const starter = join(import.meta.dirname, 'start-machine.sh');
const environment = {
  HOME: '/root',
  LANG: 'C.UTF-8',
  TERM: 'dumb',
  DEBIAN_FRONTEND: 'noninteractive',
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
};
/** A boot takes some three seconds on an idle core. */
const bootTimeoutMs = 180_000;
/** systemd kills what has not ended after 90 s. */
const stopTimeoutMs = 180_000;

/** Place of a machine: what of a lab it needs. */
export interface Site {
  directory: string;
  cgroup: string;
  /** Runs a command beside the machines; throws unless it ends with 0. */
  host(...argv: string[]): string;
  /** Path of a machine's network namespace. */
  namespaceOf(machine: { name: string }): string;
}

/** How to make a machine. */
export interface MachineWish {
  /** At most 9 characters, unlike that of any other machine. */
  name: string;
  address: string;
  /** Directories that its file system lies above, the uppermost first. */
  lower: readonly string[];
  /** Size of its disk; without it that of the machine that runs the test. */
  diskMiB?: number;
  /** Host name, where it is not the name. */
  hostName?: string;
  /** Parent of the directory of its files; without it the lab's. */
  directory?: string;
}

/** A machine whose process 1 is systemd, in namespaces. Its file system stays from one boot to the next. */
export class Machine {
  readonly name: string;
  readonly address: string;
  readonly #hostName: string;
  readonly #lab: Site;
  readonly #lower: string;
  readonly #directory: string;
  readonly #cgroup: string;
  #process: ChildProcess | undefined;
  #pid: number | undefined;

  constructor(lab: Site, wish: MachineWish) {
    const { name, address, lower, diskMiB, hostName = name, directory = lab.directory } = wish;
    this.name = name;
    this.#hostName = hostName;
    this.address = address;
    this.#lab = lab;
    this.#lower = lower.join(':');
    this.#directory = join(directory, name);
    this.#cgroup = join(lab.cgroup, name);
    mkdirSync(this.#directory, { recursive: true });
    if (diskMiB !== undefined)
      lab.host('mount', '-t', 'tmpfs', '-o', `size=${diskMiB}m`, 'tmpfs', this.#directory);
    for (const place of ['upper', 'work', 'root']) mkdirSync(join(this.#directory, place));
    mkdirSync(this.#cgroup, { recursive: true });
    this.writeOff('/etc/hostname', `${hostName}\n`);
    this.writeOff('/etc/hosts', `127.0.0.1 localhost\n127.0.1.1 ${hostName}\n`);
    // The machines have no name server; without a file the resolver asks 127.0.0.1, which refuses at once.
    this.writeOff('/etc/resolv.conf', '');
    this.writeOff('/etc/machine-id', `${Buffer.from(name).toString('hex').padEnd(32, '0')}\n`);
  }

  /** Directory of what the machine has written; a machine that is off can be changed there. */
  get upper(): string {
    return join(this.#directory, 'upper');
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  /** Writes a file while the machine is off. */
  writeOff(path: string, text: string): void {
    const file = join(this.upper, path);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, text);
  }

  /** Removes a file that was written while the machine was off; the one below it, if any, shows again. */
  removeOff(path: string): void {
    rmSync(join(this.upper, path));
  }

  /** Starts it, and returns when systemd has started all units. */
  async boot(): Promise<void> {
    await this.power();
    await waitFor(
      `${this.name} is up`,
      async () => {
        if (this.#process === undefined) throw new Error(`${this.name} went off:\n${this.#log()}`);
        const { stdout } = await this.run(['systemctl', 'is-system-running']);
        return /^(running|degraded)/.test(stdout);
      },
      bootTimeoutMs,
      () => this.#log(),
    );
  }

  /** Starts it, and returns while systemd is at work. */
  async power(): Promise<void> {
    if (this.#process !== undefined) throw new Error(`${this.name} is on`);
    const log = openSync(this.#logFile, 'a');
    const child = spawn(
      'nsenter',
      [
        `--net=${this.#lab.namespaceOf(this)}`,
        ...['unshare', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child'],
        ...['sh', starter, this.#directory, this.#lower, this.#cgroup, this.#hostName],
      ],
      { stdio: ['ignore', log, log], detached: true },
    );
    closeSync(log);
    this.#process = child;
    child.once('exit', (code, signal) => {
      appendFileSync(this.#logFile, `ended: ${code ?? signal ?? ''}\n`);
      this.#process = undefined;
      this.#pid = undefined;
    });
    // nsenter and unshare replace each other, and unshare's child becomes systemd.
    this.#pid = await waitFor(`${this.name} has a process 1`, () => {
      if (this.#process === undefined) throw new Error(`${this.name} went off:\n${this.#log()}`);
      const children = `/proc/${child.pid}/task/${child.pid}/children`;
      const pid = Number(readFileSync(children, 'utf8').trim());
      return pid > 0 && readFileSync(`/proc/${pid}/comm`, 'utf8') === 'systemd\n' && pid;
    });
  }

  /** Runs a command on it as root. */
  run(argv: readonly string[], options: Omit<CommandOptions, 'env'> = {}): Promise<CommandResult> {
    if (this.#pid === undefined) throw new Error(`${this.name} is off: ${argv.join(' ')}`);
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup'];
    const entering = ['nsenter', '--target', String(this.#pid), ...namespaces, '--root', '--wd'];
    const { PATH } = process.env;
    return run([...entering, '--', 'env', '-i', ...pairs(environment), ...argv], {
      ...options,
      env: { PATH },
    });
  }

  /** The same; returns what it prints, and throws unless it ends with 0. */
  async mustRun(
    argv: readonly string[],
    options: Omit<CommandOptions, 'env'> = {},
  ): Promise<string> {
    const { status, stdout, stderr } = await this.run(argv, options);
    if (status === 0) return stdout;
    throw new Error(
      `${this.name}: ${argv.join(' ')}: status ${status ?? 'none'}\n${stdout}${stderr}`,
    );
  }

  /** Puts a file on it, of root's. */
  async write(path: string, content: string | Buffer, mode = '644'): Promise<void> {
    // Standard input is a socket, which cannot be opened as /dev/stdin.
    const script = 'umask 077; mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"';
    await this.mustRun(['sh', '-c', script, 'sh', path, mode], { input: content });
  }

  /** Text of a file; undefined when there is none. */
  async read(path: string): Promise<string | undefined> {
    const { status, stdout } = await this.run(['cat', path]);
    return status === 0 ? stdout : undefined;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.run(['test', '-e', path])).status === 0;
  }

  /** Journal of a unit in this boot, or since an earlier one; without a unit all. */
  async journal(...options: readonly string[]): Promise<string> {
    return (await this.run(['journalctl', '--no-pager', '--output', 'short', ...options])).stdout;
  }

  /** A property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return (
      await this.mustRun(['systemctl', 'show', '--property', property, '--value', unit])
    ).trim();
  }

  /** Switches it off as a person does. */
  async shutDown(): Promise<void> {
    await this.run(['systemctl', '--no-block', 'poweroff']);
    await this.#whenOff();
  }

  /** Shuts it down and starts it again. */
  async reboot(): Promise<void> {
    await this.run(['systemctl', '--no-block', 'reboot']);
    await this.#whenOff();
    await this.boot();
  }

  /** Ends every process at once, by SIGKILL of process 1. */
  async cutPower(): Promise<void> {
    if (this.#pid !== undefined) process.kill(this.#pid, 'SIGKILL');
    await this.#whenOff();
  }

  get #logFile(): string {
    return join(this.#lab.directory, `${this.name}.log`);
  }

  #log(): string {
    return readFileSync(this.#logFile, 'utf8').split('\n').slice(-40).join('\n');
  }

  async #whenOff(): Promise<void> {
    await waitFor(`${this.name} is off`, () => !this.isUp, stopTimeoutMs);
  }
}

function pairs(variables: Record<string, string>): string[] {
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`);
}
