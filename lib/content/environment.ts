import { posix } from 'node:path';
import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { badArchive } from './archive-entry.ts';
import { type ArchiveListing, findRoot, type RootMark, several } from './archive.ts';

/** The files and directories by which the root of a Puppet environment is known. */
export const environmentMarks: readonly RootMark[] = [
  ['manifests', 'directory'],
  ['environment.conf', 'file'],
];

/** The files of an environment that decide about a run, and are read before it. */
export const environmentConf = 'environment.conf';
export const hieraConfig = 'hiera.yaml';
/** Limit for each of them. */
export const maxSettingsBytes = 64 * 1024;

/** The texts of these files; undefined for one that is not there. */
export interface EnvironmentSettings {
  conf: string | undefined;
  hiera: string | undefined;
}

/**
 * Finds the root of an environment in an archive.
 *
 * @throws UpdateError `malformed` when there is none
 */
export function environmentRoot(listing: ArchiveListing): string {
  const root = findRoot(listing, ...environmentMarks);
  if (root !== undefined) return root;
  throw (
    several(listing, ...environmentMarks) ??
    badArchive(
      'it has no manifests/ at the top of the environment',
      'an environment has manifests/, and may have modules/, hiera.yaml and data/',
    )
  );
}

/** Plan by which a node applies an environment. */
export interface EnvironmentPlan {
  /** The manifest, or the directory of manifests, relative to the environment's root; '' is the root. */
  manifest: string;
}

const defaultManifest = 'manifests';
/** Settings that change nothing in a run of `puppet apply`, or that Puppet honours by itself. */
const harmless: readonly string[] = ['environment_timeout', 'static_catalogs', 'rich_data'];

/**
 * Decides which manifests of an environment are applied, and refuses what a node cannot honour: settings
 * that lead out of it, a command, Hiera data that Puppet ignores, and an environment without manifests.
 * The operator's `submit` decides so before anything is signed, and root by itself before Puppet runs.
 *
 * @param listing all paths of the environment, relative to its root
 * @throws UpdateError `malformed` with all faults
 */
export async function planEnvironment(
  listing: ArchiveListing,
  { conf, hiera }: EnvironmentSettings,
): Promise<EnvironmentPlan> {
  const faults: string[] = [];
  const settings = conf === undefined ? new Map<string, string>() : parseConf(conf, faults);
  const named = settings.get('manifest');
  const manifest = named === undefined ? defaultManifest : insidePath(named);
  if (manifest === undefined)
    faults.push(
      `environment.conf sets manifest = ${printable(named ?? '')}, which is not inside the environment`,
    );
  else faults.push(...manifestFaults(listing, manifest, named !== undefined));
  faults.push(...modulePathFaults(listing, settings.get('modulepath')));
  if ((settings.get('config_version') ?? '') !== '')
    faults.push(
      'environment.conf sets config_version, a command that would run as root on every node, and of which nothing would show',
    );
  for (const name of settings.keys())
    if (!['manifest', 'modulepath', 'config_version', ...harmless].includes(name))
      faults.push(`environment.conf sets ${name}, which Puppet ignores there`);
  const fault = hiera === undefined ? undefined : await hieraFault(hiera);
  if (fault !== undefined) faults.push(fault);
  if (manifest !== undefined && faults.length === 0) return { manifest };
  throw new UpdateError('malformed', `the environment cannot be used: ${faults.join('; ')}`, {
    hint: 'correct that, and submit it again: docs/puppet.md#an-environment-a-directory-or-an-archive has what environment.conf and hiera.yaml may say',
  });
}

/** Reads the lines `name = value` as Puppet::Settings::IniFile does; a name that comes twice is a fault. */
function parseConf(text: string, faults: string[]): Map<string, string> {
  const settings = new Map<string, string>();
  if (text.startsWith('\ufeff'))
    faults.push('environment.conf begins with a byte-order mark: save it as UTF-8 without one');
  for (const [index, line] of text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .entries()) {
    if (/^\s*(#.*)?$/.test(line) || /^\s*\[main\]\s*$/.test(line)) continue;
    const [, name = '', value = ''] = /^\s*(\w+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === '')
      faults.push(`line ${index + 1} of environment.conf is no setting: ${printable(line.trim())}`);
    else if (settings.has(name)) faults.push(`environment.conf sets ${name} twice`);
    else settings.set(name, value);
  }
  return settings;
}

/** A path as a canonical relative one; undefined when it leads out, or is for Puppet to interpolate. */
function insidePath(path: string): string | undefined {
  if (path === '' || path.startsWith('/') || path.includes('$')) return undefined;
  const plain = posix.normalize(path).replace(/\/$/, '');
  if (plain === '..' || plain.startsWith('../')) return undefined;
  return plain === '.' ? '' : plain;
}

function manifestFaults(listing: ArchiveListing, manifest: string, isNamed: boolean): string[] {
  const type = manifest === '' ? 'directory' : listing.get(manifest);
  if (type === 'file') return [];
  if (type === undefined)
    return [
      isNamed
        ? `environment.conf sets manifest = ${printable(manifest)}, which is not there`
        : 'it has no manifests/ at its top',
    ];
  const prefix = manifest === '' ? '' : `${manifest}/`;
  const below = [...listing]
    .filter(([path, kind]) => kind === 'file' && path.startsWith(prefix))
    .map(([path]) => path);
  // Puppet::Node::Environment.perform_initial_import: **/*.pp, which leaves out hidden ones.
  const isRead = (path: string): boolean =>
    path.endsWith('.pp') && !`/${path.slice(prefix.length)}`.includes('/.');
  const mistaken = below.find((path) => /\.pp$/i.test(path) && !path.endsWith('.pp'));
  if (mistaken !== undefined)
    return [`"${printable(mistaken)}" is not read by Puppet, which takes *.pp in lower case alone`];
  return below.some(isRead)
    ? []
    : [
        `${manifest === '' ? 'it' : `${printable(manifest)}/`} holds no *.pp, so nothing would be applied`,
      ];
}

/** `$basemodulepath` is the node's own module path. Directories that are not there are passed over, as git leaves them out. */
function modulePathFaults(listing: ArchiveListing, modulePath: string | undefined): string[] {
  if (modulePath === undefined) return [];
  return modulePath
    .split(':')
    .filter((part) => !/^\$(basemodulepath|\{basemodulepath\})$/.test(part))
    .flatMap((part) => {
      const path = insidePath(part);
      const setting = `environment.conf sets a modulepath with "${printable(part)}"`;
      if (path === undefined)
        return [
          `${setting}, which is not inside the environment (the node's own modules are $basemodulepath)`,
        ];
      return listing.get(path) === 'file' ? [`${setting}, which is a file`] : [];
    });
}

/**
 * Puppet::Pops::Lookup::HieraConfig.create: without a version, or when it is no hash, a file counts as
 * version 3, and EnvironmentDataProvider ignores that (Puppet 7) or fails (Puppet 8, strict=error).
 */
async function hieraFault(yaml: string): Promise<string | undefined> {
  const { parse } = await import('yaml');
  let loaded: unknown;
  try {
    loaded = parse(yaml);
  } catch {
    // Puppet says where, at the first look-up.
    return undefined;
  }
  const value = (key: string): unknown =>
    typeof loaded === 'object' && loaded !== null
      ? (loaded as Record<string, unknown>)[key]
      : undefined;
  const given = value('version') ?? value(':version');
  const text = typeof given === 'number' || typeof given === 'string' ? String(given) : '';
  const version = text === '' ? 3 : Number.parseInt(text, 10);
  if (version === 4 || version === 5) return undefined;
  const what =
    text === '' ? 'has no version, and so counts as version 3' : `is version ${printable(text)}`;
  return `its hiera.yaml ${what}, which Puppet ignores in an environment: it must be version 5`;
}
