/**
 * `npm run test:machines`: whole machines whose process 1 is systemd, in namespaces of this one, with the
 * package installed as an operator does it. Needs some minutes, so it is no part of `npm test`.
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { exitStatus, formatError, UpdateError } from '../../lib/errors.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';
import { mustRun, runSync } from '../support/run/command.ts';
import { repository } from '../support/run/repository.ts';
import { makeBare, type Release, suites } from './base.ts';
import { CannotBeMade } from './cannot-be-made.ts';
import { placesVariable } from './places.ts';

const help = `Usage: npm run test:machines [-- [12|13] [--only TEXT] [--keep DIR]]

Boots machines of that Debian release (default 13), whose process 1 is systemd, in namespaces with a network
of their own, installs the package, sets up a fleet, and shows what an operator relies on: each kind of
update, reboots, power cuts, upgrades, a full disk, a wrong clock. Takes some 20 minutes on two cores. Needs
root, mmdebstrap (apt-get install mmdebstrap) and control groups of version 2.

  --only TEXT   the scenarios whose name has that text
  --keep DIR    make the base of the machines in DIR, or go on with the one that is there, and leave it
  --help

Exit status: 0 all passed, 1 one failed, 64 usage, 77 such machines cannot be made here, skipped.
`;

const { parse, usage } = commandLineOf(() => 'npm run test:machines -- --help');
const skipped = 77;
const cgroupPrefix = 'p2p-machines-';

interface Request {
  release: Release;
  only: string | undefined;
  keep: string | undefined;
}

function parseRequest(args: string[]): Request | undefined {
  const { values, positionals } = parse({
    args,
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      keep: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return undefined;
  const [release = '13', ...more] = positionals;
  if (!isRelease(release) || more.length > 0)
    throw usage(`the release is 12 or 13, not ${positionals.join(' ')}`);
  const { only, keep } = values;
  return { release, only, keep: keep === undefined ? undefined : resolve(keep) };
}

function isRelease(text: string): text is Release {
  return text in suites;
}

/**
 * Finds where control groups of version 2 are mounted: systemd needs a part of that tree for itself.
 *
 * @throws CannotBeMade
 */
function cgroupRoot(): string {
  const mount = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, , type, options]) => type === 'cgroup2' && options?.split(',').includes('rw'));
  if (mount?.[1] === undefined)
    throw new CannotBeMade('no tree of control groups of version 2 is mounted for writing');
  return mount[1];
}

/** Removes groups without processes, with those below them. */
function removeCgroup(directory: string): void {
  if (!existsSync(directory)) return;
  for (const { name, parentPath } of readdirSync(directory, { withFileTypes: true }).filter(
    (entry) => entry.isDirectory(),
  ))
    removeCgroup(join(parentPath, name));
  rmdirSync(directory);
}

/** Removes what runs that were killed have left. */
function removeStaleCgroups(root: string): void {
  const isStale = (name: string): boolean =>
    name.startsWith(cgroupPrefix) && !existsSync(join('/proc', name.slice(cgroupPrefix.length)));
  for (const name of readdirSync(root).filter(isStale)) removeCgroup(join(root, name));
}

function requireTools(): void {
  if (process.getuid?.() !== 0)
    throw new CannotBeMade('only root can boot machines: run it as root');
  const tools = ['mmdebstrap', 'dpkg-deb', 'ip', 'tc', 'unshare', 'nsenter', 'setpriv'];
  for (const tool of tools)
    if (runSync(['sh', '-c', `command -v ${tool}`]).status !== 0)
      throw new CannotBeMade(`${tool} is missing: apt-get install ${tool}`);
}

let child: ReturnType<typeof spawn> | undefined;
let isStopped = false;

/** Runs a command in a sandbox, with which the machines end, whatever happens to this process. */
function inSandbox(argv: readonly string[], env: Record<string, string>): Promise<number> {
  const sandbox = ['sh', join(repository, 'test/support/run/sandbox.sh'), ...argv];
  return new Promise((done, fail) => {
    child = spawn('setpriv', ['--pdeathsig', 'KILL', ...sandbox], {
      cwd: repository,
      env: { ...process.env, ...env, TSX_DISABLE_CACHE: '1' },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', fail);
    child.once('close', (status) => {
      done(status ?? 1);
    });
  });
}

async function main({ release, only, keep }: Request): Promise<number> {
  requireTools();
  const root = cgroupRoot();
  removeStaleCgroups(root);
  const cgroup = join(root, `${cgroupPrefix}${process.pid}`);
  const work = mkdtempSync(join(tmpdir(), 'p2p-machines-'));
  try {
    say('building the package');
    const deb = mustRun(['npm', 'run', '--silent', 'package', '--', '--out', work]).split('\n')[0];
    const base = keep ?? join(work, 'base');
    say(`making Debian ${release}, unless it is there, in ${base}`);
    await makeBare(release, base);
    const figures = join(work, 'figures');
    writeFileSync(figures, '');
    const env = placesVariable({ base, directory: work, cgroup, deb: deb ?? '', figures });
    say('booting a first machine');
    const node = [process.execPath, '--import', 'tsx'];
    const prepared = await inSandbox([...node, 'test/machines/prepare.ts'], env);
    if (prepared !== 0 || isStopped) return prepared;
    say('booting the fleet');
    const vitest = [process.execPath, join(repository, 'node_modules/vitest/vitest.mjs'), 'run'];
    const config = ['--config', 'test/machines/vitest.config.ts'];
    const filter = only === undefined ? [] : ['--testNamePattern', only];
    const status = await inSandbox([...vitest, ...config, ...filter], env);
    say(`figures: ${readFileSync(figures, 'utf8').trim().split('\n').join(' ')}`);
    return status;
  } finally {
    removeCgroup(cgroup);
    rmSync(work, { recursive: true, force: true });
  }
}

function say(text: string): void {
  console.error(`test:machines: ${text}`);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    isStopped = true;
    child?.kill('SIGTERM');
  });

try {
  const request = parseRequest(process.argv.slice(2));
  if (request === undefined) process.stdout.write(help);
  else process.exitCode = await main(request);
} catch (error) {
  if (error instanceof CannotBeMade) {
    say(`skipped: ${error.message}`);
    process.exitCode = skipped;
  } else if (error instanceof UpdateError) {
    process.stderr.write(formatError('test:machines', error));
    process.exitCode = exitStatus(error);
  } else throw error;
}
