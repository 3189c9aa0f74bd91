import { spawnSync } from 'node:child_process';
import { constants, createReadStream, lstatSync, readFileSync } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ContentKind } from '../../announcement/fields.ts';
import type { Update } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { badArchive } from '../../content/archive-entry.ts';
import { listingBelow, unpackArchive } from '../../content/archive.ts';
import {
  environmentConf,
  environmentRoot,
  hieraConfig,
  maxSettingsBytes,
  planEnvironment,
} from '../../content/environment.ts';
import { isIntact } from '../../content/copy-verified.ts';
import { installModule } from '../../daemons/puppet/install-module.ts';
import {
  applyManifest,
  type ApplyResult,
  type PuppetSettings,
  type RunContext,
} from '../../daemons/puppet/puppet.ts';
import { commandHint } from '../../command-hint.ts';
import { hasErrno, UpdateError } from '../../errors.ts';
import { currentKeySet, keepKeySet, readChained } from '../../state/key-chain.ts';
import { makePublicDirectory } from '../../system/directory.ts';
import { fsyncDirectory } from '../../system/durable-write.ts';
import { readRegularFile } from '../../system/regular-file.ts';
import { parseKeySet } from '../../trust/key-set.ts';

/** Mode of a delivered file. */
const deliveredMode = 0o644;

/** The verified copy of one update's content, and the places of its effects. */
export interface ApplyRequest extends RunContext {
  kind: ContentKind;
  /** A file under its announced name, in a directory that no other user can write. */
  contentPath: string;
  name: string;
  channel: string;
  version: number;
  /** Empty and private. The caller removes it. */
  workDir: string;
  noop: boolean;
  config: PuppetSettings & { deliveryDir: string; moduleStoreDir: string };
}

/**
 * Applies one update to this machine. Runs one at a time only: the caller holds the lock and has
 * ended the survivor of a run that was killed.
 *
 * @throws UpdateError `malformed` when the content does not fit its kind, `try-later` when Puppet cannot
 *   be run or was ended from outside; and file system errors, such as of a full disk
 */
export async function applyContent(request: ApplyRequest): Promise<ApplyResult> {
  const { kind, contentPath, config } = request;
  if (request.noop && (kind === 'module' || kind === 'file')) {
    throw new UpdateError('malformed', `a ${kind} cannot be applied as noop`, {
      hint: 'only manifests and environments have a dry run',
    });
  }
  switch (kind) {
    case 'manifest': {
      const modulePath = [config.moduleDir, ...config.modulePath].join(':');
      return flushed(
        await applyManifest(config, contentPath, [`--modulepath=${modulePath}`], request),
      );
    }
    case 'module':
      return flushed(await installModule(config, { ...config, contentPath }, request));
    case 'environment':
      return flushed(await applyEnvironment(request));
    case 'file':
      return deliverFile(request);
  }
}

/**
 * Flushes the disks after a run: Puppet flushes nothing that it writes, and may write anywhere, but a
 * power cut must not keep the outcome and lose the effects, since an applied update is never run again.
 * Also after a run that changed nothing: a killed one before it may have.
 */
function flushed(result: ApplyResult): ApplyResult {
  if (result.ok) spawnSync('sync', { stdio: 'ignore' });
  return result;
}

/**
 * Unpacks an environment and applies its manifests as Puppet's environment `production`: its own
 * modules/ come first in the module path (or what its environment.conf says), its hiera.yaml is the
 * environment layer of Hiera, below the node's own in confDir. An older `submit` signed environments that
 * no node can honour: they are given up here, and never run in part.
 */
async function applyEnvironment(request: ApplyRequest): Promise<ApplyResult> {
  const { contentPath, workDir, config } = request;
  const unpacked = join(workDir, 'environment');
  const listing = await unpackArchive(contentPath, unpacked);
  const root = environmentRoot(listing);
  const text = (name: string): string | undefined => {
    const bytes = readRegularFile(join(unpacked, root, name), { maxBytes: maxSettingsBytes });
    if (bytes === 'invalid') throw badArchive(`its ${name} is too long, or no regular file`);
    return bytes === 'absent' ? undefined : bytes.toString();
  };
  const settings = { conf: text(environmentConf), hiera: text(hieraConfig) };
  const { manifest } = await planEnvironment(listingBelow(listing, root), settings);
  const environments = join(workDir, 'environments');
  await mkdir(environments);
  const environment = join(environments, 'production');
  await rename(join(unpacked, root), environment);
  const modules = [
    `--environmentpath=${environments}`,
    `--basemodulepath=${[config.moduleDir, ...config.modulePath].join(':')}`,
  ];
  return applyManifest(config, join(environment, manifest), modules, request);
}

/** Puts a file in its place in one step, 0644, so that a reader finds the old one or the new one. */
async function deliverFile({ contentPath, name, config }: ApplyRequest): Promise<ApplyResult> {
  const { deliveryDir } = config;
  if (name !== basename(name) || name.startsWith('.')) {
    throw new UpdateError('malformed', 'the name of the file is not a plain name', {
      hint: 'submit it under a name of letters, digits and . _ + -',
    });
  }
  await makePublicDirectory(deliveryDir);
  const target = join(deliveryDir, name);
  // rename(2) replaces a symlink itself and never follows it, but cannot replace a directory.
  const there = await lstat(target).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (there?.isDirectory() === true) {
    const reason = `${target} is a directory: move it away first`;
    return { ok: false, reason, exitCode: null, changed: null, failed: null };
  }
  // Runs go one at a time, so a file of this name is left over from a killed one.
  const temporary = join(deliveryDir, `.p2p-update-${name}`);
  await rm(temporary, { force: true, recursive: true });
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    for await (const chunk of createReadStream(contentPath)) await file.appendFile(chunk as Buffer);
    await file.chmod(deliveredMode);
    await file.sync();
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  fsyncDirectory(deliveryDir);
  return { ok: true, reason: 'applied', exitCode: null, changed: 1, failed: 0 };
}

/**
 * Whether the file of an update is in its place as it was delivered, in content, type, owner and mode: a person may
 * have changed or removed it since.
 */
export async function isDelivered(deliveryDir: string, update: Update): Promise<boolean> {
  const target = join(deliveryDir, update.name);
  const stats = lstatSync(target, { throwIfNoEntry: false });
  if (stats?.isFile() !== true || stats.uid !== process.geteuid?.()) return false;
  return (stats.mode & 0o7777) === deliveredMode && (await isIntact(target, update));
}

/**
 * Makes the next key set the one that this node trusts. The announcement, which the caller has verified,
 * is the signature of the root keys in force over these bytes (docs/trust.md#key-sets); checked here is
 * that the bytes are the next link of this fleet's chain.
 *
 * @param copy the verified copy of the content, which no other user can write
 * @throws UpdateError `malformed` when they are not; `configuration` when the keys in force cannot be read
 */
export function activateKeySet(config: Config, update: Update, copy: string): ApplyResult {
  const text = readFileSync(copy, 'latin1');
  const next = parseKeySet(text);
  const current = currentKeySet(config);
  const done = { ok: true, exitCode: null, changed: null, failed: null };
  // Killed between the chain and the outcome.
  if (readChained(config.applyDir, update.version)?.payload === update.payload)
    return { ...done, reason: `key set ${update.version} is in force` };
  const isNext = next.epoch === update.version && next.epoch === current.epoch + 1;
  if (next.fleet !== current.fleet || !isNext)
    throw new UpdateError(
      'malformed',
      `it is key set ${next.epoch} of fleet ${next.fleet}; fleet ${current.fleet} needs ${current.epoch + 1}`,
      { hint: `make key sets with: ${commandHint('keys', '--help')}` },
    );
  keepKeySet(config.applyDir, next.epoch, { text, payload: update.payload });
  return { ...done, reason: `key set ${next.epoch} is in force`, changed: 1 };
}
