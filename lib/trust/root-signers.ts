import { UpdateError } from '../errors.ts';
import { publicKeyOf } from './ed25519.ts';
import { findKey } from './key-change.ts';
import type { KeySet } from './key-set.ts';
import { readPrivateKey } from './private-key.ts';
import type { Signer } from './signing.ts';

/**
 * Reads private root keys, each once; they are stored nowhere.
 *
 * @throws UpdateError `configuration` for a file that cannot be used, `untrusted` for a key that is
 *   not a root key of the key set
 */
export function loadRootSigners(files: readonly string[], keySet: KeySet): Signer[] {
  const hint =
    'name the file of a root key that p2p-update keygen made, on the medium that holds it';
  const signers = new Map<string, Signer>();
  for (const file of files) {
    const key = readPrivateKey(file, hint);
    const { id } = publicKeyOf(key);
    if (!keySet.rootKeys.some((root) => root.id === id)) throw notRoot(file, id, keySet);
    signers.set(id, { id, key });
  }
  return [...signers.values()];
}

/**
 * Chooses the root keys that have to sign the next key set. The signed bytes name all of them, so the
 * choice is made before the first one signs.
 *
 * @param given ids of the root keys that sign now
 * @param others ids, or beginnings of ids, of those that countersign
 * @throws UpdateError `usage` when they do not reach the threshold, or one is no root key
 */
export function chooseSigners(
  keySet: KeySet,
  given: readonly string[],
  others: readonly string[],
): string[] {
  const { rootKeys, rootThreshold } = keySet;
  const named = new Set([...given, ...others.map((id) => findKey(keySet, id, 'root'))]);
  if (named.size >= rootThreshold) return [...named].sort();
  const all = rootKeys.map(({ id }) => id);
  if (others.length === 0 && all.length === rootThreshold) return all;
  const rest = all.filter((id) => !named.has(id));
  throw new UpdateError(
    'usage',
    `key set ${keySet.epoch} asks for ${rootThreshold} root keys, and ${named.size} would sign`,
    { hint: `say who countersigns: --with, with ids out of ${rest.join(', ')}` },
  );
}

function notRoot(file: string, id: string, keySet: KeySet): UpdateError {
  const isRelease = keySet.releaseKeys.some(({ key }) => key.id === id);
  const role = isRelease ? 'a release key, not a root key' : 'not a root key';
  return new UpdateError('untrusted', `${file} (${id}) is ${role} of key set ${keySet.epoch}`, {
    hint: `the root keys are: ${keySet.rootKeys.map((root) => root.id).join(', ')}`,
  });
}
