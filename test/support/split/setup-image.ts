import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { repository } from '../run/repository.ts';
import { temporaryDirectory } from '../run/temporary.ts';
import { run, type CommandResult } from '../run/command.ts';

const code = '/opt/p2p-update';
const programs = [
  'p2p-update',
  'commands/reconcile',
  'handlers/update',
  'handlers/transmission-done',
];

/** Why the image cannot be set up here; undefined when it can. Giving files away needs more than uid 0. */
export function whyNoImage(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root: run npm test';
  const directory = mkdtempSync(join(tmpdir(), 'p2p-update-ids-'));
  try {
    chownSync(directory, 106, 107);
    return undefined;
  } catch {
    return 'needs user ids besides 0, which this namespace does not have';
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export type Outcome = CommandResult;

export function runProgram(command: string, args: readonly string[]): Promise<CommandResult> {
  return run([command, ...args]);
}

/** An image with a built p2p-update in /opt, a Node, and Transmission's user; no daemons. */
export class Image {
  readonly root: string;

  constructor() {
    this.root = temporaryDirectory();
    chmodSync(this.root, 0o755);
    this.write('/etc/passwd', 'root:x:0:0:root:/root:/bin/sh\ndebian-transmission:x:106:107::/:\n');
    this.write('/etc/group', 'root:x:0:\ndebian-transmission:x:107:\n');
    for (const program of programs)
      this.write(`${code}/dist/${program}.cjs`, `#!${process.execPath}\n`, 0o755);
    // The real program beside the stand-ins, so that it runs whatever a test does to them.
    for (const name of ['p2p-update.cjs', 'commands/setup.cjs'])
      cpSync(join(repository, 'dist', name), this.at(`${code}/built/${name}`));
    this.write(process.execPath, '', 0o755);
    this.write('/lib/systemd/systemd', '', 0o755);
    cpSync(join(repository, 'scripts/setup'), this.at(`${code}/scripts/setup`), {
      recursive: true,
    });
  }

  at(path: string): string {
    return join(this.root, path);
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.at(path)), { recursive: true, mode: 0o755 });
    writeFileSync(this.at(path), text, { mode });
  }

  read(path: string): string {
    return readFileSync(this.at(path), 'utf8');
  }

  /** Runs its setup on it. */
  setup(args: readonly string[] = [], umask = '022'): Promise<CommandResult> {
    const command = ['-c', `umask ${umask}; exec "$@"`, 'sh', process.execPath];
    const program = this.at(`${code}/built/p2p-update.cjs`);
    return runProgram('/bin/sh', [...command, program, 'setup', '--root', this.root, ...args]);
  }

  /** Everything below some paths: `uid:gid mode`, and the text of a file or the end of a link. */
  tree(...tops: string[]): Record<string, string> {
    const tree: Record<string, string> = {};
    const visit = (path: string): void => {
      const stats = lstatSync(this.at(path));
      const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
      const ownership = `${stats.uid}:${stats.gid} ${mode}`;
      if (stats.isSymbolicLink()) tree[path] = `-> ${readlinkSync(this.at(path))}`;
      else if (stats.isDirectory()) {
        tree[path] = ownership;
        for (const name of readdirSync(this.at(path)).sort()) visit(join(path, name));
      } else tree[path] = `${ownership} ${this.read(path)}`;
    };
    for (const top of tops) if (existsSync(this.at(top))) visit(top);
    return tree;
  }
}
