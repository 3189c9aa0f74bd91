/**
 * Bundles the program and each handler into one CommonJS file each below dist/: why is in
 * docs/decisions/bundles.md. Plain JavaScript, since root builds: tsx would believe its cache in /tmp.
 *
 * Everything is built and checked beside dist/, then each file is put in its place by one rename(2): at no
 * instant a program is missing that Serf, Transmission or a unit may start, and a build that fails leaves
 * dist/ as it was. Several builds at once do each other no harm.
 */
import { chmod, mkdir, mkdtemp, open, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { $, glob } from 'zx';
import { bundle, program, root } from './bundle.mjs';
import { sourceTime } from './source-time.mjs';

const dist = join(root, 'dist');
const besidePrefix = 'dist.new-';
const oldAfterMs = 3_600_000;

/**
 * The Node that builds, by absolute path: the program that root runs must not depend on a PATH. A path
 * with white space, or too long for the kernel (128 bytes before Linux 5.1), cannot be in a shebang.
 */
function shebang() {
  const node = process.execPath;
  if (!/\s/.test(node) && node.length <= 120) return `#!${node}`;
  process.stderr.write(`build: warning: ${node} cannot be in a shebang: taking node from PATH\n`);
  return '#!/usr/bin/env node';
}

/** Writes a new file that every user may run, whatever the umask is, and flushes it to disk. */
async function writeProgram(path, contents) {
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'wx');
  try {
    await file.writeFile(contents);
    await file.chmod(0o755);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Refuses bundles that Node does not take, or a program that does not start. */
async function check(directory, files, version) {
  await Promise.all(
    files.map(({ path }) => $`${process.execPath} --check ${join(directory, path)}`),
  );
  const told = await $`${process.execPath} ${join(directory, program)} version`;
  if (told.stdout !== `${version}\n`) throw new Error(`the new program says: ${told.stdout}`);
  // Reading a bundle needs nothing of the machine.
  for (const name of ['submit', 'reconcile', 'setup'])
    await $`${process.execPath} ${join(directory, program)} help ${name}`;
}

/** Puts each program in its place, and then removes those of an earlier version, which must not be run. */
async function putInPlace(directory, files) {
  for (const { path } of files) {
    const place = dirname(join(dist, path));
    await mkdir(place, { recursive: true });
    await chmod(place, 0o755);
    await rename(join(directory, path), join(dist, path));
  }
  const ours = new Set(files.map(({ path }) => path));
  const stale = await glob('**', { cwd: dist, dot: true });
  for (const path of stale) if (!ours.has(path)) await rm(join(dist, path), { force: true });
  const folders = await glob('**', { cwd: dist, dot: true, onlyDirectories: true });
  // The deepest first; one that has a program stays.
  for (const path of folders.sort().reverse()) await rmdir(join(dist, path)).catch(() => undefined);
}

/** Removes directories that a killed build left an hour ago or more. */
async function removeOldWork() {
  for (const path of await glob(`${besidePrefix}*`, { cwd: root, onlyDirectories: true })) {
    const { mtimeMs } = await stat(join(root, path)).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > oldAfterMs) await rm(join(root, path), { recursive: true });
  }
}

let isReplacing = false;
let beside;
try {
  await removeOldWork();
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const { files } = await bundle({
    version,
    shebang: shebang(),
    buildTime: (await sourceTime()) ?? Math.floor(Date.now() / 1000),
  });
  beside = await mkdtemp(join(root, besidePrefix));
  for (const { path, contents } of files) await writeProgram(join(beside, path), contents);
  await check(beside, files, version);
  isReplacing = true;
  await putInPlace(beside, files);
} catch (error) {
  const state = isReplacing ? 'dist/ is partly new' : 'dist/ is as it was';
  const hint = error.hint ?? `${state}; correct the cause, then: npm run build`;
  process.stderr.write(`build: error: ${error.message.trim()}\nbuild: hint: ${hint}\n`);
  process.exitCode = error.status ?? 1;
} finally {
  if (beside !== undefined) await rm(beside, { recursive: true, force: true });
}
