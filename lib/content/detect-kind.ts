import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { UpdateError } from '../errors.ts';
import { readRegularFile } from '../system/regular-file.ts';
import { printable } from '../system/printable.ts';
import { badArchive } from './archive-entry.ts';
import {
  type ArchiveListing,
  checkArchive,
  findRoot,
  listingBelow,
  type RootMark,
  several,
} from './archive.ts';
import { type ContentKind, kindWords } from '../announcement/fields.ts';
import {
  environmentConf,
  environmentMarks,
  environmentRoot,
  hieraConfig,
  maxSettingsBytes,
  planEnvironment,
} from './environment.ts';
import { type Format, isKnown, sniffFormat } from './format.ts';
import { maxMetadataBytes, type ModuleMetadata, parseMetadata } from './module-metadata.ts';
import { listDirectory } from './pack.ts';
import { deliverAsFile, peek, type Peeked } from './peek.ts';

/** The kind of update that a path makes, and why, with the facts that its content states. */
export type DetectedKind = {
  /** As it ends "… is taken for a module: ". */
  why: string;
  /** A directory has to be packed first, with packDirectory. */
  isDirectory: boolean;
} & (
  | { kind: 'manifest' | 'environment' | 'file' }
  /** `channel` is the default one: the module's name, lower-case. */
  | { kind: 'module'; module: ModuleMetadata; channel: string }
);

/** A kind that content may be of, with what keeps it from being that, if anything does. */
export interface PossibleKind {
  kind: ContentKind;
  trouble?: UpdateError;
}

/** The error for content of which the path does not say plainly what it is: a person has to. */
export class UnclearKind extends UpdateError {
  readonly kinds: readonly PossibleKind[];
  /** For content that has to be decompressed before it can be anything but a file. */
  readonly format: Format | undefined;

  constructor(message: string, kinds: readonly PossibleKind[], format?: Format) {
    super('usage', message, {
      hint: `say what it is, with --kind ${kinds.map(({ kind }) => kind).join(' or --kind ')}`,
    });
    this.name = 'UnclearKind';
    this.kinds = kinds;
    this.format = format;
  }
}

/** The error for content that has to be decompressed before it can be of the kind that was asked for. */
export class PackedContent extends UpdateError {
  readonly format: Format;

  constructor(path: string, format: Format) {
    super(
      'malformed',
      `"${printable(basename(path))}" is ${format.description}, which no node unpacks`,
      {
        hint: 'pack it as .tar.gz',
      },
    );
    this.name = 'PackedContent';
    this.format = format;
  }
}

/** End of the hint for a directory that can be delivered once it is packed: `submit` adds the command. */
export const packAsFile = 'to deliver it as one file';

const moduleMark: RootMark = ['metadata.json', 'file'];

/** Names of archives, of all that tar(1) compresses with. */
const archiveName = /\.(zip|7z|rar|tar|tar\.\w+|tgz|tbz2?|txz|tzst|tlz|taz)$/i;
/** `.PP`, and what an editor or a browser makes of `.pp`: Puppet's language, by another name. */
const manifestLikeName = /\.pp($|[^a-z0-9])/i;

/**
 * Tells the kind of an update. Plain from the path alone are a manifest (`*.pp`), an environment (a
 * directory with manifests/), a module archive whose name is what its metadata.json says, and a file
 * that has nothing of code. Anything else that would become code on the nodes, or that looks like code
 * and would be a file, is for a person to say: docs/puppet.md#which-kind-a-file-is
 *
 * @param wanted the kind that a person has said
 * @throws UnclearKind (`usage`); UpdateError `malformed` for content that nodes would refuse, or that
 *   cannot be read; and file system errors
 */
export async function detectKind(path: string, wanted?: ContentKind): Promise<DetectedKind> {
  const stats = await stat(path);
  if (stats.isDirectory()) return detectDirectory(path, wanted);
  if (!stats.isFile()) {
    throw new UpdateError('malformed', `"${printable(path)}" is neither a file nor a directory`, {
      hint: 'submit a regular file, or a directory with manifests/',
    });
  }
  const said = { why: 'by --kind', isDirectory: false };
  if (wanted === 'file') return { kind: 'file', ...said };
  const format = await sniffFormat(path);
  if (wanted === 'manifest') {
    if (!isKnown(format)) return { kind: 'manifest', ...said };
    throw new UpdateError(
      'malformed',
      `"${printable(basename(path))}" is ${format.description}, and no manifest`,
      { hint: 'name a text in the language of Puppet' },
    );
  }
  if (wanted === undefined) return detectByName(path, format);
  if (format.type === 'packed') throw new PackedContent(path, format);
  return wanted === 'module'
    ? { ...(await checkModule(path)), ...said }
    : { ...(await checkEnvironment(path)), ...said };
}

/**
 * The kind of content of which nobody has said one, in a bare torrent: root runs nothing that is not plainly
 * code by its name.
 *
 * @throws UpdateError `malformed` for what is not plain, and as {@link detectKind} does
 */
export async function plainKind(path: string): Promise<DetectedKind> {
  try {
    return await detectKind(path);
  } catch (error) {
    if (!(error instanceof UnclearKind)) throw error;
    throw new UpdateError('malformed', `${error.message}; a bare torrent cannot say which`, {
      hint: 'p2p-update submit --kind says it, in a signed announcement',
    });
  }
}

async function detectByName(path: string, format: Format): Promise<DetectedKind> {
  const name = basename(path);
  const shown = `"${printable(name)}"`;
  const asFile = (why: string): DetectedKind => ({ kind: 'file', why, isDirectory: false });
  if (format.type === 'other') {
    if (isKnown(format) && (archiveName.test(name) || manifestLikeName.test(name)))
      throw new UpdateError('malformed', `${shown} is ${format.description}`, {
        hint: `fetch it again; ${deliverAsFile}`,
      });
    if (/\.pp$/.test(name))
      return { kind: 'manifest', why: 'its name ends in .pp', isDirectory: false };
    if (manifestLikeName.test(name))
      throw new UnclearKind(
        `${shown} may be a manifest, though its name does not end in .pp, or a file`,
        [{ kind: 'manifest' }, { kind: 'file' }],
      );
    if (!archiveName.test(name))
      return asFile('it is no archive, and its name does not end in .pp');
  }
  if (format.type === 'packed') {
    if (
      !archiveName.test(name) &&
      !manifestLikeName.test(name) &&
      format.decompressor !== undefined
    )
      return asFile(`it is ${format.description}, and its name is not that of an archive`);
    throw new UnclearKind(
      `${shown} is ${format.description}, which cannot be looked into: it may hold code, or be a file`,
      [{ kind: 'file' }],
      format,
    );
  }
  let peeked: Peeked;
  try {
    peeked = await peek(path);
  } catch (error) {
    if (!(error instanceof UpdateError) || error.code !== 'malformed') throw error;
    // A name that nobody takes for an archive's: a database, an image, a program.
    if (!archiveName.test(name)) return decompressedOrFile(name, format);
    throw error;
  }
  return judgeArchive(path, peeked);
}

/** A gzipped file that holds no archive. */
function decompressedOrFile(name: string, format: Format): DetectedKind {
  if (manifestLikeName.test(name))
    throw new UnclearKind(
      `"${printable(name)}" may be a manifest that is ${format.description}, or a file`,
      [{ kind: 'file' }],
      format,
    );
  return {
    kind: 'file',
    why: 'it is no archive, and its name does not end in .pp',
    isDirectory: false,
  };
}

/** Decides about an archive by what is in it. */
async function judgeArchive(path: string, peeked: Peeked): Promise<DetectedKind> {
  const name = basename(path);
  const { listing, texts, codeLike } = peeked;
  const moduleRoot = findRoot(listing, moduleMark);
  if (moduleRoot !== undefined) {
    const text = texts.get(below(moduleRoot, 'metadata.json'));
    const fitting = fittingNames(text);
    if (fitting !== undefined && fitting.test(name)) {
      const why = 'its name is what its metadata.json says';
      return { ...(await checkModule(path, peeked)), why, isDirectory: false };
    }
  }
  const environmentAt = findRoot(listing, ...environmentMarks);
  const code =
    codeLike ?? (moduleRoot === undefined ? environmentAt : below(moduleRoot, 'metadata.json'));
  if (code === undefined)
    return { kind: 'file', why: 'it is an archive without Puppet code', isDirectory: false };

  const kinds: PossibleKind[] = [];
  const consider = async (kind: ContentKind, check: () => Promise<unknown>): Promise<void> => {
    try {
      await check();
      kinds.push({ kind });
    } catch (trouble) {
      if (!(trouble instanceof UpdateError)) throw trouble;
      kinds.push({ kind, trouble });
    }
  };
  const isModule =
    moduleRoot !== undefined ||
    (environmentAt !== undefined && isModuleLike(listing, environmentAt));
  if (isModule) await consider('module', () => checkModule(path, peeked));
  if (environmentAt !== undefined && (!isModule || isEnvironment(listing, environmentAt)))
    await consider('environment', () => checkEnvironment(path, peeked));
  if (kinds.length === 0) await consider('environment', () => checkEnvironment(path, peeked));
  kinds.push({ kind: 'file' });
  throw new UnclearKind(
    `"${printable(name)}" ${describePossible(kinds)}: it holds ${printable(code)}`,
    kinds,
  );
}

/** `may be a module or a file`, with what is in the way of either. */
function describePossible(kinds: readonly PossibleKind[]): string {
  const shown = kinds.map(({ kind, trouble }) =>
    trouble === undefined ? kindWords[kind] : `${kindWords[kind]} (but ${trouble.message})`,
  );
  return `may be ${shown.join(' or ')}`;
}

/** The names under which an archive is plainly the module of its metadata.json; undefined when there are none. */
function fittingNames(metadata: string | undefined): RegExp | undefined {
  let name: unknown;
  let version: unknown;
  try {
    ({ name, version } = JSON.parse((metadata ?? '').replace(/^\ufeff/, '')) as Record<
      string,
      unknown
    >);
  } catch {
    // A file that a person wrote a comma too many in; its name still says what it is meant to be.
    name = /"name"\s*:\s*"([^"]+)"/.exec(metadata ?? '')?.[1];
    version = /"version"\s*:\s*"([^"]+)"/.exec(metadata ?? '')?.[1];
  }
  if (typeof name !== 'string' || typeof version !== 'string') return undefined;
  const release = `${name.replace('/', '-')}-${version}`.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${release}\\.(tar\\.gz|tgz|tar|zip)$`, 'i');
}

const below = (root: string, name: string): string => (root === '' ? name : `${root}/${name}`);

/** True for what a module never has beside its manifests/. */
function isEnvironment(listing: ArchiveListing, root: string): boolean {
  return [environmentConf, 'modules', 'site-modules', 'Puppetfile'].some((name) =>
    listing.has(below(root, name)),
  );
}

/**
 * True for the source of a module. It has manifests/ as well, but they only define classes: applied as an
 * environment it would change nothing, and succeed.
 */
function isModuleLike(listing: ArchiveListing, root: string): boolean {
  if (isEnvironment(listing, root)) return false;
  if (listing.has(below(root, 'metadata.json'))) return true;
  return (
    listing.has(below(root, 'manifests/init.pp')) && !listing.has(below(root, 'manifests/site.pp'))
  );
}

/** Checks a module archive as nodes do. */
async function checkModule(path: string, peeked?: Peeked) {
  const listing = await checkArchive(path);
  const root = findRoot(listing, moduleMark);
  if (root === undefined) throw several(listing, moduleMark) ?? noMetadata();
  const { texts } = peeked ?? (await peek(path));
  const text = texts.get(below(root, 'metadata.json'));
  if (text === undefined) throw badArchive('its metadata.json is too long');
  return moduleOf(text);
}

function noMetadata(): UpdateError {
  return badArchive('it has no metadata.json at the top of the module', metadataHint);
}

const metadataHint = 'give it a metadata.json: docs/puppet.md has one to begin with';

function moduleOf(metadata: string) {
  const module = parseMetadata(metadata);
  return { kind: 'module' as const, module, channel: module.forgeName.toLowerCase() };
}

/** Checks an environment's archive as nodes do. */
async function checkEnvironment(path: string, peeked?: Peeked) {
  const listing = await checkArchive(path);
  const root = environmentRoot(listing);
  const { texts } = peeked ?? (await peek(path));
  const text = (name: string): string | undefined => {
    const found = texts.get(below(root, name));
    if (found === undefined && listing.has(below(root, name)))
      throw badArchive(`its ${name} is too long`);
    return found;
  };
  const settings = { conf: text(environmentConf), hiera: text(hieraConfig) };
  await planEnvironment(listingBelow(listing, root), settings);
  return { kind: 'environment' as const };
}

async function detectDirectory(path: string, wanted?: ContentKind): Promise<DetectedKind> {
  const shown = `"${printable(basename(resolve(path)))}"`;
  const listing = await listTop(path);
  const said = { why: 'by --kind', isDirectory: true };
  if (wanted === 'manifest' || wanted === 'file')
    throw new UpdateError('malformed', `${shown} is a directory, and no ${wanted}`, {
      hint: packAsFile,
    });
  if (wanted === 'module') {
    await listDirectory(path);
    if (listing.get('metadata.json') !== 'file')
      throw new UpdateError('malformed', `${shown} is a directory without metadata.json`, {
        hint: metadataHint,
      });
    const text = readText(join(path, 'metadata.json'), maxMetadataBytes);
    return { ...moduleOf(text ?? ''), ...said };
  }
  if (!environmentMarks.some(([name, type]) => listing.get(name) === type)) {
    throw new UpdateError('malformed', `"${printable(path)}" is a directory without manifests/`, {
      hint: `an environment has manifests/, and may have modules/, hiera.yaml and data/; ${packAsFile}`,
    });
  }
  const check = async (): Promise<void> => {
    const text = (name: string): string | undefined => readText(join(path, name), maxSettingsBytes);
    const settings = { conf: text(environmentConf), hiera: text(hieraConfig) };
    await planEnvironment(await listDirectory(path), settings);
  };
  if (wanted === undefined && isModuleLike(listing, '')) {
    const trouble = listing.get('metadata.json') === 'file' ? {} : { trouble: noMetadata() };
    const kinds: PossibleKind[] = [{ kind: 'module', ...trouble }, { kind: 'environment' }];
    throw new UnclearKind(
      `${shown} ${describePossible(kinds)}: applied as an environment, a module's classes would be defined, and none be used`,
      kinds,
    );
  }
  await check();
  if (wanted !== undefined) return { kind: 'environment', ...said };
  const why = `it is a directory with ${listing.get('manifests') === 'directory' ? 'manifests/' : environmentConf}`;
  return { kind: 'environment', isDirectory: true, why };
}

/** The top of a directory, links followed, with the manifests that tell a module from an environment. */
async function listTop(path: string): Promise<ArchiveListing> {
  const listing = new Map<string, 'file' | 'directory'>();
  const names = ['metadata.json', 'manifests', 'manifests/init.pp', 'manifests/site.pp'];
  for (const name of [...names, environmentConf, 'modules', 'site-modules', 'Puppetfile']) {
    const stats = await stat(join(path, name)).catch(() => undefined);
    if (stats?.isDirectory() === true) listing.set(name, 'directory');
    else if (stats?.isFile() === true) listing.set(name, 'file');
  }
  return listing;
}

/** The text of a file that is there and not too long; undefined when it is absent. */
function readText(file: string, maxBytes: number): string | undefined {
  const bytes = readRegularFile(file, { maxBytes, followLinks: true });
  if (bytes === 'absent') return undefined;
  if (bytes === 'invalid')
    throw new UpdateError('malformed', `"${printable(file)}" is too long, or no regular file`, {
      hint: 'submit it once it is one of a few lines',
    });
  return bytes.toString();
}
