import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { badArchive } from '../../content/archive-entry.ts';
import { findRoot, unpackArchive } from '../../content/archive.ts';
import {
  maxMetadataBytes,
  type ModuleMetadata,
  parseMetadata,
} from '../../content/module-metadata.ts';
import { packDirectory } from '../../content/pack.ts';
import { hasErrno } from '../../errors.ts';
import { makePublicDirectory, syncTree } from '../../system/directory.ts';
import { fsyncDirectory } from '../../system/durable-write.ts';
import {
  type ApplyResult,
  didNotRun,
  ownEnvironment,
  type PuppetSettings,
  type RunContext,
  runPuppet,
} from './puppet.ts';

/**
 * Installs a module archive with `puppet module install` into a fresh directory below `moduleStoreDir`
 * and then points the module path's symlink at it, by rename: Puppet itself installs nothing over the
 * same version, and never replaces a module in one step.
 *
 * Puppet gets an archive that is packed here from the checked content, since it unpacks by tar(1), which
 * takes links too.
 *
 * @throws UpdateError `malformed` for an archive that is not a module; and as {@link runPuppet} does
 */
export async function installModule(
  settings: PuppetSettings,
  { contentPath, moduleStoreDir }: { contentPath: string; moduleStoreDir: string },
  run: RunContext,
): Promise<ApplyResult> {
  const unpacked = join(run.workDir, 'module');
  const root = findRoot(await unpackArchive(contentPath, unpacked), ['metadata.json', 'file']);
  if (root === undefined) throw badArchive('it has no metadata.json at the top of the module');
  const metadataFile = join(unpacked, root, 'metadata.json');
  if ((await stat(metadataFile)).size > maxMetadataBytes)
    throw badArchive('its metadata.json is too long');
  const module = parseMetadata(await readFile(metadataFile, 'utf8'));

  const link = join(settings.moduleDir, module.name);
  const store = resolve(moduleStoreDir);
  const obstacle = await findObstacle(link, store, module);
  if (obstacle !== undefined)
    return { ok: false, reason: obstacle, exitCode: null, changed: null, failed: null };

  // Puppet reads gzipped archives only, named as it names a release.
  const release = `${module.forgeName}-${module.version}`;
  const archive = join(run.workDir, `${release}.tar.gz`);
  await packDirectory(join(unpacked, root), archive);
  await makePublicDirectory(store);
  // Always a new directory: an existing one may be half of an interrupted run.
  const target = await mkdtemp(join(store, `${release}-${await contentId(contentPath)}-`));
  const outcome = await runPuppet(
    settings,
    [
      ['module', 'install'],
      [
        '--ignore-dependencies', // else it asks the Forge
        ownEnvironment,
        // No other module path: no module must count as installed already.
        `--modulepath=${target}`,
        `--target-dir=${target}`,
        `--module_working_dir=${join(run.workDir, 'puppet-module')}`,
        archive,
      ],
    ],
    run,
  ).catch(async (error: unknown) => {
    await rm(target, { recursive: true, force: true });
    throw error;
  });
  const installed = join(target, module.name);
  const isInstalled =
    outcome.exitCode === 0 && !outcome.timedOut && (await exists(join(installed, 'metadata.json')));
  if (!isInstalled) {
    await rm(target, { recursive: true, force: true });
    return didNotRun(outcome, [run.workDir]);
  }
  await chmod(target, 0o755);
  // On disk before the link that points to it.
  await syncTree(target);
  fsyncDirectory(store);
  await makePublicDirectory(dirname(link));
  await replaceLink(link, installed);
  await removeOthers(store, module, target);
  return { ok: true, reason: 'applied', exitCode: 0, changed: null, failed: null };
}

/** The reason why the module's place in the module path cannot be taken; undefined when it can. */
async function findObstacle(
  link: string,
  store: string,
  { forgeName }: ModuleMetadata,
): Promise<string | undefined> {
  try {
    if (!(await lstat(link)).isSymbolicLink())
      return `${link} is there already and was not installed by p2p-update: move it away first`;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const target = await readlink(link);
  if (!target.startsWith(`${store}/`))
    return `${link} is a link to ${target}, which p2p-update did not make: remove it first`;
  // Modules of one name by two authors would replace each other for ever.
  if (!target.slice(store.length + 1).startsWith(`${forgeName}-`))
    return `${link} belongs to another module (${target}): remove the link first`;
  return undefined;
}

/** The first 16 hex digits of the SHA-256, which tell apart contents of the same version. */
async function contentId(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex').slice(0, 16);
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** Makes or replaces a symlink in one step, and flushes it to disk. */
async function replaceLink(link: string, target: string): Promise<void> {
  // A name that begins with a dot: Puppet does not take it for a module.
  const temporary = join(dirname(link), `.p2p-update-${target.slice(dirname(target).length + 1)}`);
  await rm(temporary, { force: true });
  await symlink(target, temporary);
  await rename(temporary, link);
  fsyncDirectory(dirname(link));
}

/** Removes earlier installs of this module, finished or not, from the store. */
async function removeOthers(
  store: string,
  { forgeName }: ModuleMetadata,
  current: string,
): Promise<void> {
  for (const name of await readdir(store)) {
    const path = join(store, name);
    // No author and no module has a `-` in its name, so the prefix is this module's alone.
    if (name.startsWith(`${forgeName}-`) && path !== current)
      await rm(path, { recursive: true, force: true });
  }
}
