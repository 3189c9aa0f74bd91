import { badArchive } from './archive-entry.ts';

/** The fields of a Puppet module's metadata.json that an installation needs. */
export interface ModuleMetadata {
  /** `author-name`, as the Forge writes it. */
  forgeName: string;
  /** The module's own name: its directory in a module path. */
  name: string;
  version: string;
}

export const maxMetadataBytes = 1 << 20;

const correct = 'correct metadata.json and pack the module again';

// Puppet::ModuleTool.username_and_modname_from and semver.org's grammar.
const forgeNamePattern = /^([a-zA-Z0-9]+)[-/]([a-z][a-z0-9_]*)$/;

const versionPattern =
  /^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$/;

/**
 * Parses a module's metadata.json.
 *
 * @throws UpdateError `malformed` when its name or version cannot be used, or Puppet would fail on it
 */
export function parseMetadata(text: string): ModuleMetadata {
  let metadata: unknown;
  try {
    metadata = JSON.parse(text);
  } catch (error) {
    throw badArchive(`metadata.json is not JSON: ${syntaxFault(text, error)}`, correct);
  }
  const get = (key: string): unknown =>
    typeof metadata === 'object' && metadata !== null && key in metadata
      ? (metadata as Record<string, unknown>)[key]
      : undefined;
  const name = get('name');
  const version = get('version');
  const parts = typeof name === 'string' ? forgeNamePattern.exec(name) : null;
  if (parts === null || (name as string).length > 100)
    throw badArchive('the "name" in metadata.json is not of the form "author-name"', correct);
  if (typeof version !== 'string' || !versionPattern.test(version))
    throw badArchive('the "version" in metadata.json is not a version such as "1.2.3"', correct);
  // Puppet::Module.load_metadata fails without any of these.
  for (const key of ['author', 'license', 'source', 'dependencies']) {
    const value = get(key);
    const isFit = key === 'dependencies' ? Array.isArray(value) : typeof value === 'string';
    if (!isFit)
      throw badArchive(`metadata.json has no "${key}", without which Puppet fails`, correct);
  }
  const [, author = '', own = ''] = parts;
  return { forgeName: `${author}-${own}`, name: own, version };
}

/** The fault of text that is not JSON, as people leave it who write it by hand. */
function syntaxFault(text: string, error: unknown): string {
  if (text.startsWith('\ufeff'))
    return 'it begins with a byte-order mark, U+FEFF: save it as UTF-8 without one';
  if (text.includes('\0') || text.startsWith('\ufffd'))
    return 'it is not UTF-8, but perhaps UTF-16';
  if (text.trim() === '') return 'it is empty';
  const line = (offset: number): number => text.slice(0, offset).split('\n').length;
  // Texts are passed over, so that no comma and no comment in them counts.
  const tokens = /"(?:[^"\\\n]|\\.)*"|(,)\s*[}\]]|(\/\/|\/\*|#)|(')/g;
  for (const { index, 1: comma, 2: comment, 3: quote } of text.matchAll(tokens)) {
    if (comma !== undefined) return `line ${line(index)} has a comma after the last item`;
    if (comment !== undefined) return `line ${line(index)} has a comment, which JSON does not know`;
    if (quote !== undefined)
      return `line ${line(index)} has a single quote in place of a double one`;
  }
  const offset = /at position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
  return offset === undefined ? 'it does not parse' : `line ${line(Number(offset))} does not parse`;
}
