import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { run, type CommandResult } from '../run/command.ts';
import type { Place } from '../fleet/network.ts';
import { repository } from '../run/repository.ts';

/** Directory of the code on a production node. */
export const codeDir = '/opt/p2p-update';
/** Environment that systemd gives a service of the system (systemd.exec(5), Environment). */
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Directories of a node's own; all others are the machine's, read-only. The test's directory is in /tmp. */
const own = ['etc', 'var', 'home', 'root', 'run', 'opt', 'tmp'];
/** Directories in /var of the packages of Transmission and Puppet. */
const packaged = ['lib/transmission-daemon', 'cache/puppet'];

// The machine's own programs in /opt (Puppet, Node) stay where they are.
const mountScript = `
set -eu
dir=$1 repository=$2
echo "$3" > /proc/sys/kernel/hostname
for program in /opt/*; do
  [ ! -e "$program" ] || [ "$program" = ${codeDir} ] || {
    mkdir "$dir$program"
    mount --bind "$program" "$dir$program"
  }
done
mkdir "$dir${codeDir}"
mount --bind "$repository" "$dir${codeDir}"
mount -o remount,bind,ro "$dir${codeDir}"
mount --bind "$dir/dist" "$dir${codeDir}/dist"
for each in ${own.join(' ')}; do mount --rbind "$dir/$each" "/$each"; done
mount -o remount,bind,ro /
cd /
echo ready
exec sleep infinity
`;

export interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

export interface RunAsOptions {
  input?: string | Buffer;
  env?: Record<string, string>;
  umask?: string;
  /** As a process of a unit with NoNewPrivileges=. */
  noNewPrivileges?: boolean;
  memoryDenyWriteExecute?: boolean;
  timeoutMs?: number;
}

/**
 * Runs a command as MemoryDenyWriteExecute= does, by PR_SET_MDWE of prctl(2), which Linux has since 6.3. An
 * older kernel runs it all the same: no unit of a machine that came with one asks for it.
 */
const denyWriteExecute = [
  ...['perl', '-e'],
  `syscall(${process.arch === 'arm64' ? 167 : 157}, 65, 1, 0, 0, 0); exec { $ARGV[0] } @ARGV or die $!`,
];

/**
 * One machine with users of its own: a network, mount and host-name namespace in which /etc, /var,
 * /home and others are below a temporary directory, and the code is in /opt/p2p-update.
 */
export class SplitNode {
  readonly name: string;
  readonly place: Place;
  /** Everything that this machine has of its own is below. */
  readonly directory: string;
  readonly #holder: ChildProcess;

  private constructor(name: string, place: Place, directory: string, holder: ChildProcess) {
    this.name = name;
    this.place = place;
    this.directory = directory;
    this.#holder = holder;
  }

  static async boot(name: string, place: Place, directory: string): Promise<SplitNode> {
    mkdirSync(directory, { recursive: true });
    for (const each of own) if (each !== 'etc') mkdirSync(join(directory, each));
    // As on any machine, whatever the umask of the test is.
    for (const each of own) if (each !== 'etc') chmodSync(join(directory, each), 0o755);
    chmodSync(join(directory, 'tmp'), 0o1777);
    const copy = { recursive: true, verbatimSymlinks: true, preserveTimestamps: true };
    await run(['cp', '-a', '/etc', directory]);
    mkdirSync(join(directory, 'var', 'lib'), { mode: 0o755 });
    mkdirSync(join(directory, 'var', 'cache'), { mode: 0o755 });
    symlinkSync('/run', join(directory, 'var', 'run'));
    for (const path of packaged)
      if (existsSync(join('/var', path)))
        await run(['cp', '-a', join('/var', path), join(directory, 'var', path)]);
    cpSync(join(repository, 'dist'), join(directory, 'dist'), copy);
    const argv = ['netns', 'exec', place.namespace, 'unshare', '--mount', '--uts'];
    const script = ['sh', '-c', mountScript, 'sh', directory, repository, name];
    const holder = spawn('ip', [...argv, '--propagation', 'private', ...script], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
    });
    await new Promise<void>((resolve, reject) => {
      let errors = '';
      holder.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
      holder.stdout.once('data', () => {
        resolve();
      });
      holder.once('error', reject);
      holder.once('exit', () => {
        reject(new Error(`${name} did not boot: ${errors}`));
      });
    });
    return new SplitNode(name, place, directory, holder);
  }

  /** Path at which the test sees a file of this machine. */
  at(path: string): string {
    return join(this.directory, path.replace(/^\/opt\/p2p-update\/dist/, '/dist'));
  }

  read(path: string): string {
    return readFileSync(this.at(path), 'utf8');
  }

  list(path: string): string[] {
    return readdirSync(this.at(path)).sort();
  }

  account(name: string): Account {
    const lines = this.read('/etc/passwd').split('\n');
    const [, , uid, gid, , home] =
      lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? [];
    if (uid === undefined) throw new Error(`${this.name} has no user ${name}`);
    return { name, uid: Number(uid), gid: Number(gid), home: home ?? '/' };
  }

  /** The command that enters this machine and runs another there, as root. */
  entering(command: readonly string[]): [program: string, args: string[]] {
    const namespaces = ['--net', '--mount', '--uts'];
    return ['nsenter', [`--target=${this.#holder.pid}`, ...namespaces, '--', ...command]];
  }

  /** The command that becomes a user, with nothing in the environment but what is given. */
  becoming(user: string, command: readonly string[], options: RunAsOptions = {}): string[] {
    const { env = {}, umask = '022', noNewPrivileges = false } = options;
    const denying = options.memoryDenyWriteExecute === true ? denyWriteExecute : [];
    const { uid, gid } = this.account(user);
    const identity = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups'];
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    return [
      ...['setpriv', ...identity, ...(noNewPrivileges ? ['--no-new-privs'] : []), '--'],
      ...['env', '-i', ...variables],
      ...['/bin/sh', '-c', `cd /; umask ${umask}; exec "$@"`, 'sh', ...denying, ...command],
    ];
  }

  /** Runs a command as a user of this machine, logged in. */
  runAs(
    user: string,
    command: readonly string[],
    options: RunAsOptions = {},
  ): Promise<CommandResult> {
    const { home } = this.account(user);
    const env = { PATH: systemPath, HOME: home, ...options.env };
    const argv = this.becoming(user, command, { ...options, env });
    const [program, args] = this.entering(argv);
    const { input, timeoutMs } = options;
    return run([program, ...args], {
      cwd: '/',
      ...(input && { input }),
      ...(timeoutMs && { timeoutMs }),
    });
  }

  /** Runs lines of shell as a user of this machine. */
  shell(user: string, script: string, options: RunAsOptions = {}): Promise<CommandResult> {
    return this.runAs(user, ['/bin/sh', '-c', script], options);
  }
}
