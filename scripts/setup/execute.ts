import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { UpdateError } from '../../lib/errors.ts';
import type { Ownership } from '../../lib/state/layout.ts';
import {
  createDurably,
  fsyncDirectory,
  removeLeftOvers,
  removeTemporaryNames,
  replaceDurably,
} from '../../lib/system/durable-write.ts';
import { printable } from '../../lib/system/printable.ts';
import type { Manager } from '../doctor/manager.ts';
import { replaceAs } from './as-user.ts';
import { readMachine } from './machine.ts';
import type { ServiceStep, SetupStep } from './plan.ts';

const toolEnvironment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
/** Transmission takes up to a minute to end: it tells its peers. */
const serviceTimeoutMs = 120_000;

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/**
 * Takes one step of the plan on the machine below `root`.
 *
 * @throws the error of the system call that failed, or UpdateError `internal` for useradd and usermod
 */
export function takeSetupStep(step: SetupStep, root: string, manager: Manager): void {
  switch (step.kind) {
    case 'add-user':
      // No shell and no home: the user is for services, not for logins.
      runTool(root, 'useradd', [
        ...['--system', '--user-group', '--comment', 'p2p-update'],
        ...['--home-dir', '/nonexistent', '--no-create-home', '--shell', '/usr/sbin/nologin'],
        step.user,
      ]);
      return;
    case 'add-to-group':
      runTool(root, 'usermod', ['--append', '--groups', step.group, step.user]);
      return;
    case 'make-directory':
      inParent(root, step.path, (path) => {
        mkdirSync(path, 0o700);
        setOwnership(root, path, step.ownership, O_DIRECTORY);
        fsyncDirectory(dirname(path));
      });
      return;
    case 'correct':
      inParent(root, step.path, (path) => {
        // Those of a set-up that was killed.
        removeTemporaryNames(path);
        setOwnership(root, path, step.ownership, 0);
      });
      return;
    case 'write-file':
      inParent(root, step.path, (path) => {
        const { mode } = step.ownership;
        removeLeftOvers(dirname(path), Date.now());
        if (step.old !== undefined) replaceDurably(path, step.text, mode);
        else if (!createDurably(path, step.text, mode))
          throw new Error(`${step.path} was made just now`);
        setOwnership(root, path, step.ownership, 0);
      });
      return;
    case 'make-link':
      inParent(root, step.path, (path) => {
        symlinkSync(step.target, path);
        fsyncDirectory(dirname(path));
      });
      return;
    case 'write-settings':
      replaceAs(
        step.user,
        root === '/' ? step.path : join(root, step.path),
        step.text,
        readMachine(root),
      );
      return;
    case 'service':
      for (const command of serviceCommands(step, root, manager)) runService(command);
      return;
    default:
      throw new Error(`unknown step ${JSON.stringify(step satisfies never)}`);
  }
}

/** The commands of a service step, which a person can paste too. */
export function serviceCommands(
  { verb, units }: ServiceStep,
  root: string,
  manager: Manager,
): string[][] {
  switch (manager) {
    case 'systemd':
      return verb === 'reload' ? [['systemctl', 'daemon-reload']] : [['systemctl', verb, ...units]];
    case 'init':
      // Debian's package has made the links for the boot.
      return /^(reload|enable|disable)$/.test(verb)
        ? []
        : units.map((unit) => ['service', unit, verb]);
    case 'none':
      return verb === 'enable' ? [['systemctl', '--root', root, 'enable', ...units]] : [];
  }
}

function runService(command: readonly string[]): void {
  const [tool = '', ...args] = command;
  // Output to files would be kept open by a daemon that an init script starts: pipes would never end.
  const { status, stderr, error } = spawnSync(tool, args, {
    ...{ encoding: 'utf8', env: toolEnvironment, cwd: '/', timeout: serviceTimeoutMs },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (error === undefined && status === 0) return;
  throw new UpdateError(
    'internal',
    `${command.join(' ')} failed: ${error?.message ?? printable(stderr.trim())}`,
    { hint: 'correct the cause, then run setup again: it goes on from here', cause: error },
  );
}

/** --prefix works on the files of an image, where --root would run the image's own programs. */
function runTool(root: string, tool: string, args: string[]): void {
  const prefix = root === '/' ? [] : ['--prefix', root];
  const { status, stderr, error } = spawnSync(tool, [...prefix, ...args], {
    encoding: 'utf8',
    env: toolEnvironment,
  });
  if (error === undefined && status === 0) return;
  throw new UpdateError('internal', `${tool} failed: ${error?.message ?? stderr.trim()}`, {
    hint: 'correct the cause, then run setup again',
    cause: error,
  });
}

/**
 * Gives `work` a path whose directory was reached from `root` without following one link: in an
 * image an absolute link would lead out of it, and in a directory of a lesser user anywhere.
 */
function inParent(root: string, path: string, work: (path: string) => void): void {
  let directory = openSync(root, O_RDONLY | O_DIRECTORY);
  try {
    for (const name of dirname(path).split('/').filter(Boolean)) {
      const next = openSync(below(directory, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      closeSync(directory);
      directory = next;
    }
    work(below(directory, basename(path)));
  } finally {
    closeSync(directory);
  }
}

function below(directory: number, name: string): string {
  return `/proc/self/fd/${directory}/${name}`;
}

/** Sets owner and mode by descriptor, so that the file that is checked is the one that is changed. */
function setOwnership(
  root: string,
  path: string,
  { owner, group, mode }: Ownership,
  flags: number,
) {
  const { users, groups } = readMachine(root);
  const uid = owner === 'root' ? 0 : users.get(owner)?.uid;
  const gid = group === 'root' ? 0 : groups.get(group)?.gid;
  if (uid === undefined || gid === undefined)
    throw new Error(`there is no user ${owner} or no group ${group}`);
  const descriptor = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | flags);
  try {
    const stats = fstatSync(descriptor);
    // A second name (hard link) may lie in a directory that is root's alone.
    if (!stats.isDirectory() && (!stats.isFile() || stats.nlink !== 1))
      throw new Error('it is no plain file with one name');
    fchownSync(descriptor, uid, gid);
    fchmodSync(descriptor, mode);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
