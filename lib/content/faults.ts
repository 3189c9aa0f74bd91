import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';

/** A fault of one entry of an archive, or of one file of a directory that is to be packed. */
export interface Fault {
  path: string;
  /** The fault, as it follows the path: 'is a symbolic link'. */
  what: string;
  /** For a link what it would take to do without it; see {@link Remedy}. */
  remedy?: 'exclude' | 'copy' | 'unpack';
}

/** The way to content that nodes take, from content with such faults. */
export interface Remedy {
  /** Paths to leave out: links that lead round in a circle or to nothing, devices. */
  excludes: readonly string[];
  /** Whether links are to be replaced by copies of what they point to. */
  copiesLinks: boolean;
}

/** Limits for a message: it names more than a control repository has of links. */
const maxNamed = 20;
const maxExcludes = 20;

/** The error for content with faults, all of them in one message. */
export class FaultyContent extends UpdateError {
  readonly source: 'tar' | 'zip' | 'directory';
  /** Undefined where nothing but other names helps. */
  readonly remedy: Remedy | undefined;
  /** The one directory in an archive that holds everything else, below which the content begins; or ''. */
  readonly root: string;

  constructor(
    message: string,
    {
      hint,
      source,
      remedy,
      root = '',
    }: Pick<FaultyContent, 'hint' | 'source' | 'remedy'> & { root?: string },
  ) {
    super('malformed', message, { hint });
    this.name = 'FaultyContent';
    this.source = source;
    this.remedy = remedy;
    this.root = root;
  }
}

/** Collects faults, bounded in memory: an archive may have ten thousand. */
export class Faults {
  readonly #named = new Map<string, string[]>();
  readonly #excludes = new Set<string>();
  #count = 0;
  #isRemediable = true;
  #copiesLinks = false;

  get count(): number {
    return this.#count;
  }

  add({ path, what, remedy }: Fault): void {
    this.#count += 1;
    if (remedy === undefined) this.#isRemediable = false;
    if (remedy === 'copy') this.#copiesLinks = true;
    if (remedy === 'exclude' && this.#excludes.size <= maxExcludes)
      this.#excludes.add(excludeOf(path));
    if (this.#count <= maxNamed)
      this.#named.set(what, [...(this.#named.get(what) ?? []), `"${printable(path)}"`]);
  }

  /** The faults in one line: `"a" is a symbolic link; "b", "c": is a device; and 7 more`. */
  describe(): string {
    const more = this.#count - maxNamed;
    return [
      ...[...this.#named].map(([what, paths]) =>
        paths.length === 1 ? `${paths.join()} ${what}` : `each ${what}: ${paths.join(', ')}`,
      ),
      ...(more > 0 ? [`and ${more} more faults`] : []),
    ].join('; ');
  }

  remedy(): Remedy | undefined {
    if (!this.#isRemediable || this.#excludes.size > maxExcludes) return undefined;
    return { excludes: [...this.#excludes], copiesLinks: this.#copiesLinks };
  }
}

/**
 * Path to exclude instead of another one. The tests of a module (spec/) are no use to a node, and where its
 * fixtures link to the module itself, `tar -h` follows them until it crashes.
 */
function excludeOf(path: string): string {
  return path.split('/').includes('spec') ? 'spec' : path;
}

/**
 * The remedy for a symbolic link.
 *
 * @param path of the link, canonical
 * @param target where it leads; undefined where that is not known
 * @param has tells whether there is a file or directory of that path
 */
export function linkRemedy(
  path: string,
  target: string | undefined,
  has: (path: string) => boolean,
): 'exclude' | 'copy' {
  if (path.split('/').includes('spec')) return 'exclude';
  if (target === undefined || target.startsWith('/')) return 'exclude';
  const at = path.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') at.push(part);
    else if (at.pop() === undefined) return 'exclude';
  }
  const leadsTo = at.join('/');
  // Round in a circle: to a directory that the link lies in.
  if (leadsTo === '' || `${path}/`.startsWith(`${leadsTo}/`)) return 'exclude';
  return has(leadsTo) ? 'copy' : 'exclude';
}
