import { verifyOffer } from './accept.ts';
import type { Config } from './config.ts';
import { UpdateError } from './errors.ts';
import { listAccepted, readAccepted } from './store.ts';
import { parsePayload, updateKey, type Update, type UpdateId } from './update.ts';

/** The updates of a node's announcements, split by what is to be done with them. */
export interface Candidates {
  /** The newest of each channel that can be read and verified: what this node should run. */
  current: Update[];
  /** What a current one has superseded. */
  superseded: UpdateId[];
}

/**
 * Reads the accepted announcements and verifies them again: keys change, disks rot, and the apply
 * side trusts neither the handler nor advance. One that fails is passed over.
 */
export async function loadCandidates(config: Config): Promise<Candidates> {
  const current = new Map<string, Update>();
  const superseded: UpdateId[] = [];
  for (const id of listAccepted(config.stateDir).reverse()) {
    if (current.has(id.channel)) {
      superseded.push(id);
      continue;
    }
    const update = await readVerified(config, id);
    if (update !== undefined) current.set(id.channel, update);
  }
  return { current: [...current.values()], superseded };
}

async function readVerified(config: Config, id: UpdateId): Promise<Update | undefined> {
  const stored = readAccepted(config.stateDir, id);
  if (stored === undefined) return undefined;
  try {
    const offer = await parsePayload(Buffer.from(stored.payload));
    verifyOffer(offer, config);
    // A file's name is what its writer chose; the signature covers the fields.
    return updateKey(offer.update) === updateKey(id) ? offer.update : undefined;
  } catch (error) {
    if (error instanceof UpdateError && error.code !== 'configuration') return undefined;
    throw error;
  }
}
