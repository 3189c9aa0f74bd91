import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, run } from './command.ts';
import { waitFor } from './wait-for.ts';

const path = '/usr/sbin:/usr/bin:/sbin:/bin';
const environment = { PATH: path, LC_ALL: 'C.UTF-8', HOME: '/root' };

/** Says why there can be no overlay of this machine; null where there can. */
export function whyNoOverlay(): string | null {
  // Maintainer scripts on an overlay stop daemons: no process but the sandbox's may be in sight.
  if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside') return 'it runs in no sandbox';
  const machine = tryToMake();
  if (machine === null) return 'it cannot mount';
  const { text } = machine.on('dpkg --version >/dev/null && echo yes');
  machine.remove();
  return text === 'yes\n' ? null : `it has no overlay of / with dpkg in it: ${text.trim()}`;
}

function tryToMake(): OverlayMachine | null {
  try {
    return new OverlayMachine();
  } catch {
    return null;
  }
}

/**
 * A machine like this one whose files can be changed at will: an overlay of /. Its mounts are in a namespace that
 * ends with what runs in it, and its devices are its own: no clean-up of a directory can meet what is the
 * machine's. The sandbox's own /run has no systemd.
 */
export class OverlayMachine {
  readonly directory = mkdtempSync(join(tmpdir(), 'machine-'));
  /** Directory that the machine has as /mnt: it does not see what is mounted here, as /tmp may be. */
  readonly share = join(this.directory, 'share');
  readonly #layer = join(this.directory, 'layer');
  #life: ChildProcess | undefined;
  /** Process 1 of the machine while it lives, as this process sees it. */
  #pid = 0;

  constructor() {
    // Other users reach what is theirs on the machine.
    chmodSync(this.directory, 0o711);
    mkdirSync(join(this.directory, 'machine'));
    mkdirSync(this.share);
    mkdirSync(this.#layer);
    // The layers of an overlay have to be apart, and / can be an overlay itself.
    const { status } = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', this.#layer]);
    if (status !== 0) {
      rmSync(this.directory, { recursive: true });
      throw new Error('cannot mount a tmpfs');
    }
    for (const name of ['upper', 'work']) mkdirSync(join(this.#layer, name));
  }

  /**
   * Runs a script on the machine, whose processes end with it.
   *
   * @param outside commands before the script that see the machine as the image in ./machine
   */
  on(script: string, outside = ''): { status: number | null; text: string } {
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      ['--mount', 'sh', '-euc', this.#mounts(`${outside}\nexec chroot machine sh -euc "$SCRIPT"`)],
      {
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024,
        env: { PATH: path, LC_ALL: 'C', DIRECTORY: this.directory, SCRIPT: script },
      },
    );
    return { status, text: `${stdout}${stderr}` };
  }

  /**
   * Lets the machine live, with processes of its own, in a network namespace.
   *
   * @param network its name, for `ip netns exec`
   */
  async live(network: string, hostName: string): Promise<void> {
    const init = `hostname ${hostName}\n${this.#mounts('exec chroot machine sh -c "while :; do sleep 3600 & wait; done"')}`;
    const spaces = ['--mount', '--pid', '--uts', '--fork', '--kill-child'];
    this.#life = spawn('ip', ['netns', 'exec', network, 'unshare', ...spaces, 'sh', '-euc', init], {
      stdio: 'ignore',
      env: { PATH: path, LC_ALL: 'C', DIRECTORY: this.directory },
    });
    const outer = this.#life.pid ?? 0;
    this.#pid = await waitFor('the machine lives', () => {
      const child = Number(readText(`/proc/${outer}/task/${outer}/children`).trim());
      return readText(`/proc/${child}/cmdline`).includes('while :') && child > 0 ? child : false;
    });
  }

  /** Runs a script on the living machine. */
  async run(script: string, input = ''): Promise<CommandResult> {
    return run(this.#inside(script), { env: environment, input });
  }

  /**
   * Runs a command on a terminal of the living machine, and gives each answer once its question is there.
   *
   * @returns what a person has seen
   */
  async converse(
    command: string,
    dialogue: readonly [question: string, answer: string][],
  ): Promise<string> {
    const [program = '', ...args] = this.#inside(`exec script -qec '${command}' /dev/null`);
    const child = spawn(program, args, { env: environment });
    let seen = '';
    let end = false;
    child.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    child.once('close', () => (end = true));
    for (const [question, answer] of dialogue) {
      const from = seen.length;
      await waitFor(
        `"${question}"`,
        () => end || seen.includes(question, Math.max(0, from - question.length)),
        undefined,
        () => seen,
      );
      child.stdin.write(`${answer}\n`);
    }
    await waitFor(
      'the end',
      () => end,
      undefined,
      () => seen,
    );
    return seen;
  }

  #inside(script: string): string[] {
    const spaces = ['--mount', '--pid', '--uts', '--net', '--root', '--wd'];
    return ['nsenter', '--target', String(this.#pid), ...spaces, 'sh', '-euc', script];
  }

  /** Ends everything on the machine, and removes it. */
  remove(): void {
    // Of process 1; with it every process of its namespace ends.
    if (this.#pid !== 0) process.kill(this.#pid, 'SIGKILL');
    this.#life?.kill('SIGKILL');
    spawnSync('umount', ['--lazy', this.#layer]);
    rmSync(this.directory, { recursive: true });
  }

  #mounts(then: string): string {
    return `
      cd "$DIRECTORY"
      mount --make-rprivate /
      mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work overlay machine
      mount --bind share machine/mnt
      mount -t tmpfs tmpfs machine/run
      mount -t proc proc machine/proc
      mount -t tmpfs -o mode=755 tmpfs machine/dev
      mknod -m 666 machine/dev/null c 1 3
      mknod -m 666 machine/dev/urandom c 1 9
      mknod -m 666 machine/dev/tty c 5 0
      mkdir machine/dev/pts
      mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=620 devpts machine/dev/pts
      ln -s pts/ptmx machine/dev/ptmx
      ln -s /proc/self/fd machine/dev/fd
      ${then}`;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
