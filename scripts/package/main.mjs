/**
 * Builds the Debian package of this tree: the same tree and SOURCE_DATE_EPOCH give the same bytes, wherever
 * and by whom it is built. Plain JavaScript, as scripts/build/main.mjs: root may build.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmod,
  lutimes,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { root } from '../build/bundle.mjs';
import { sourceTime } from '../build/source-time.mjs';
import { controlFiles, debianVersion } from './control.mjs';
import { packageFiles } from './files.mjs';

const run = promisify(execFile);

const help = `Usage: npm run package -- [--out DIR]

Builds p2p-update_VERSION_all.deb, reproducibly, and prints its path and SHA-256.

  --out DIR   where to put it (default: scripts/package/out)
  --help

The time of its files is SOURCE_DATE_EPOCH, in unix seconds, or that of the last commit.

Exit status: 0 built, 64 usage, 69 a tool is missing, 1 anything else.
`;

class Refusal extends Error {
  constructor(message, { hint, status }) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** Writes the tree below a directory with its modes, whatever the umask is, and one time for everything. */
async function writeTree(directory, files, time) {
  for (const { path, mode, contents, target } of files) {
    const file = join(directory, path);
    await mkdir(dirname(file), { recursive: true });
    if (target !== undefined) await symlink(target, file);
    else {
      const handle = await open(file, 'wx');
      await handle.writeFile(contents);
      await handle.chmod(mode);
      await handle.close();
    }
  }
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => ({
    path: join(entry.parentPath, entry.name),
    isDirectory: entry.isDirectory(),
  }));
  for (const { path, isDirectory } of [...paths, { path: directory, isDirectory: true }]) {
    if (isDirectory) await chmod(path, 0o755);
    await lutimes(path, time, time);
  }
}

/** Runs dpkg-deb in an environment of its own, on one thread: how xz cuts its blocks depends on their number. */
async function dpkgDeb(tree, deb, time) {
  try {
    await run('dpkg-deb', ['--root-owner-group', '-Zxz', '-z6', '--build', tree, deb], {
      env: {
        PATH: process.env['PATH'],
        LC_ALL: 'C',
        TZ: 'UTC',
        SOURCE_DATE_EPOCH: String(time),
        DPKG_DEB_THREADS_MAX: '1',
      },
    });
  } catch (error) {
    if (error.code === 'ENOENT')
      throw new Refusal('dpkg-deb is missing, which makes the package', {
        hint: 'build on Debian, or install it: apt-get install dpkg',
        status: 69,
      });
    throw new Error(`dpkg-deb failed: ${error.stderr?.trim() || error.message}`);
  }
}

async function makePackage(out) {
  // The time of each file in the package, and the earliest one that a node's clock can have.
  const time = await sourceTime();
  if (time === undefined)
    throw new Refusal('the time of the sources is not known: there is no commit here', {
      hint: 'SOURCE_DATE_EPOCH=$(date +%s) npm run package',
      status: 64,
    });
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const work = await mkdtemp(join(tmpdir(), 'p2p-update-package-'));
  try {
    const files = await packageFiles({ version, time, work: join(work, 'bundles') });
    const tree = join(work, 'tree');
    await writeTree(tree, [...files, ...(await controlFiles({ version, files }))], time);
    const name = `p2p-update_${debianVersion(version)}_all.deb`;
    await mkdir(out, { recursive: true });
    const beside = join(out, `.${name}.${process.pid}`);
    try {
      await dpkgDeb(tree, beside, time);
      await chmod(beside, 0o644);
      await rename(beside, join(out, name));
    } finally {
      await rm(beside, { force: true });
    }
    const sum = createHash('sha256')
      .update(await readFile(join(out, name)))
      .digest('hex');
    process.stdout.write(`${join(out, name)}\nSHA-256 ${sum}\n`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function readArguments() {
  try {
    return parseArgs({
      options: { out: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (error) {
    throw new Refusal(error.message.split('\n', 1)[0], {
      hint: 'npm run package -- --help',
      status: 64,
    });
  }
}

try {
  const { help: wantsHelp, out } = readArguments();
  if (wantsHelp) process.stdout.write(help);
  else await makePackage(out === undefined ? join(import.meta.dirname, 'out') : resolve(out));
} catch (error) {
  const hint = error.hint ?? 'correct the cause, then: npm run package';
  process.stderr.write(`package: error: ${error.message.trim()}\npackage: hint: ${hint}\n`);
  process.exitCode = error.status ?? 1;
}
