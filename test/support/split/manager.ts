import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Daemon } from '../fleet/daemon.ts';
import { systemPath, type SplitNode } from './node.ts';
import { readUnit, type Unit } from './units.ts';
import { mustRun } from '../run/command.ts';

export interface ServiceRun {
  service: string;
  status: number | null;
  stderr: string;
}

// ProtectSystem=strict, ReadWritePaths= and PrivateTmp= of systemd.exec(5), by hand.
const protectScript = `
set -eu
for path in $1; do mount --bind "$path" "$path"; done
for place in / /etc /var /home /root /run /opt; do mount -o remount,bind,ro "$place"; done
mount -t tmpfs tmpfs /tmp
shift
exec "$@"
`;

/**
 * A stand-in for systemd on one machine: follows the installed units, one run of a service at a time. A
 * change in a watched directory during a run starts none, as in systemd, which then does not watch
 * (systemd 252, src/core/path.c); that is for the timer.
 */
export class ServiceManager {
  /** Of every service that has ended, in order. */
  readonly runs: ServiceRun[] = [];
  readonly #node: SplitNode;
  readonly #daemons = new Map<string, Daemon>();
  readonly #active = new Map<string, Promise<ServiceRun>>();
  readonly #enabled = new Map<
    string,
    { watchers: FSWatcher[]; timer: NodeJS.Timeout | undefined }
  >();
  readonly #timerMs: number;

  /** @param timerMs milliseconds that stand for a minute of the timers */
  constructor(node: SplitNode, timerMs: number) {
    this.#node = node;
    this.#timerMs = timerMs;
  }

  unit(name: string): Unit {
    return readUnit(this.#node.at('/etc'), name);
  }

  /** Starts a daemon as its unit says, and returns when it listens on `port`. */
  async startDaemon(name: string, port: number): Promise<void> {
    const unit = this.unit(name);
    await this.#prepare(unit);
    const [program, args] = this.#node.entering(this.#command(unit));
    const daemon = new Daemon({
      namespace: this.#node.place.namespace,
      command: [program, ...args],
      env: { PATH: systemPath },
      logFile: this.logFile(name),
      port,
    });
    this.#daemons.set(name, daemon);
    await daemon.start();
  }

  /** Kills a daemon and its children, as a service is killed that does not end in time. */
  async killDaemon(name: string): Promise<void> {
    const command = this.unit(name).execStart.join('\0');
    const pids = mustRun(['ip', 'netns', 'pids', this.#node.place.namespace]);
    const main = pids.split('\n').find((pid) => {
      return pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `${command}\0`;
    });
    if (main === undefined) throw new Error(`${name} does not run`);
    // A daemon leads its own process group, which its children are in.
    process.kill(-Number(main), 'SIGKILL');
    await this.#daemons.get(name)?.end('SIGKILL');
  }

  /** Runs a service once, after the run that is under way, if any. */
  async start(name: string): Promise<ServiceRun> {
    await this.#active.get(name);
    return this.#run(name);
  }

  /** As `systemctl enable --now` of the path unit and the timer of that name. */
  enable(name: string): void {
    this.#enabled.set(name, { watchers: [], timer: undefined });
    this.#wait(name);
  }

  /** Starts no service any more, and returns when those under way have ended. */
  async disable(): Promise<void> {
    for (const name of this.#enabled.keys()) this.#unwatch(name);
    this.#enabled.clear();
    await Promise.all(this.#active.values());
  }

  logFile(name: string): string {
    return join(this.#node.directory, `${name}.log`);
  }

  #wait(name: string): void {
    const enabled = this.#enabled.get(name);
    if (enabled === undefined || this.#active.has(`${name}.service`)) return;
    const trigger = (): void => {
      void this.#run(`${name}.service`);
    };
    const paths = this.unit(`${name}.path`).pathChanged;
    enabled.watchers = paths.map((path) => watchPath(this.#node.at(path), trigger));
    enabled.timer = setTimeout(trigger, this.#timerMs);
  }

  #unwatch(name: string): void {
    const enabled = this.#enabled.get(name);
    for (const watcher of enabled?.watchers ?? []) watcher.close();
    clearTimeout(enabled?.timer);
    if (enabled !== undefined) enabled.watchers = [];
  }

  #run(service: string): Promise<ServiceRun> {
    const running = this.#active.get(service);
    if (running !== undefined) return running;
    const name = service.replace(/\.service$/, '');
    this.#unwatch(name);
    const run = this.#execute(service).finally(() => {
      this.#active.delete(service);
      this.#wait(name);
    });
    this.#active.set(service, run);
    return run;
  }

  #execute(service: string): Promise<ServiceRun> {
    return new Promise((resolve, reject) => {
      const [program, args] = this.#node.entering(this.#command(this.unit(service)));
      // A group of its own, in which nothing may be left: KillMode=control-group.
      const child = spawn(program, args, { cwd: '/', detached: true });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
      child.stdin.end();
      child.on('error', reject);
      child.on('close', (status) => {
        const run = { service, status, stderr: output };
        if (output !== '') appendFileSync(this.logFile(service), output);
        this.runs.push(run);
        resolve(run);
      });
    });
  }

  async #prepare({ execStartPre, stateDirectory, stateDirectoryMode, user = 'root' }: Unit) {
    const directory = `/var/lib/${stateDirectory ?? ''}`;
    const made = ['install', '-d', '-m', stateDirectoryMode, '-o', user, '-g', user, directory];
    const before = stateDirectory === undefined ? execStartPre : [made, ...execStartPre];
    for (const command of before) {
      const { status, stderr } = await this.#node.runAs('root', command);
      if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
    }
  }

  /** The command of a unit, as root of the machine runs it. */
  #command(unit: Unit): string[] {
    const { user, umask, noNewPrivileges, memoryDenyWriteExecute } = unit;
    const login: Record<string, string> = {};
    if (user !== undefined) {
      const { home } = this.#node.account(user);
      Object.assign(login, { HOME: home, LOGNAME: user, USER: user, SHELL: '/usr/sbin/nologin' });
    }
    const env = { PATH: systemPath, ...login };
    const command = this.#node.becoming(user ?? 'root', unit.execStart, {
      ...{ env, umask, noNewPrivileges, memoryDenyWriteExecute },
    });
    const bounded = unit.withoutCapabilities
      ? ['setpriv', '--inh-caps=-all', '--bounding-set=-all', ...command.slice(1)]
      : command;
    if (!unit.readOnlySystem) return bounded;
    const namespace = ['unshare', '--mount', '--propagation', 'private'];
    const { stateDirectory } = unit;
    const state = stateDirectory === undefined ? [] : [`/var/lib/${stateDirectory}`];
    const paths = [...unit.readWritePaths, ...state].join(' ');
    return [...namespace, 'sh', '-c', protectScript, 'sh', paths, ...bounded];
  }
}

/** Watches as systemd does, which waits in the parent of a path that does not exist yet. */
function watchPath(path: string, trigger: () => void): FSWatcher {
  if (existsSync(path)) return watch(path, trigger);
  return watch(dirname(path), (_event, name) => {
    if (name === basename(path)) trigger();
  });
}

/** Output of daemons and services, for the error of a failed wait. */
export function journalOf(node: SplitNode): string {
  const units = ['serf', 'transmission-daemon', 'p2p-update-advance', 'p2p-update-apply'];
  const logs = [
    ...units.map((unit) => join(node.directory, `${unit}.service.log`)),
    node.at('/var/lib/p2p-update/state/events.log'),
    node.at('/var/lib/p2p-update/apply/events.log'),
  ];
  return logs
    .filter((file) => existsSync(file))
    .map((file) => {
      const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-40);
      return [`${file}:`, ...lines.map((line) => `    ${line.slice(0, 500)}`)].join('\n');
    })
    .join('\n');
}
