import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Announcement } from '../../../lib/announcement/fields.ts';

/** The test vectors, read out of docs/announcement.md so that page and code cannot differ. */
export interface Vectors {
  fleet: string;
  keys: { name: string; seed: string; publicKey: string; id: string }[];
  metainfo: { content: string; infoDictionary: string; infoHash: string };
  announcements: {
    title: string;
    fields: Omit<Announcement, 'pieces'> & { pieces: string };
    signers: string[];
    signedBytes?: string;
    text: string;
  }[];
}

const page = readFileSync(join(import.meta.dirname, '../../../docs/announcement.md'), 'utf8');

export const vectors = JSON.parse(codeBlock('json vectors')) as Vectors;

/** The published key set; its keys are those of the vectors. */
export const keySetText = codeBlock('text keyset');

/** The text between a fence with this info string and the fence that closes it. */
export function codeBlock(info: string): string {
  const block = new RegExp(`^\`\`\`${info}\\n(.*?)^\`\`\`$`, 'ms').exec(page)?.[1];
  if (block === undefined) throw new Error(`docs/announcement.md has no block "${info}"`);
  return block;
}

/** The private key of a published seed, by its signer id. */
export function vectorKey(id: string): KeyObject {
  const seed = vectors.keys.find((key) => key.id === id)?.seed;
  if (seed === undefined) throw new Error(`no vector has the signer ${id}`);
  // RFC 8410: a PKCS#8 PrivateKeyInfo that holds the seed of RFC 8032.
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex');
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

/** The fields of a vector as `encodeBody` takes them. */
export function vectorFields({ fields }: Vectors['announcements'][number]): Announcement {
  return { ...fields, pieces: Buffer.from(fields.pieces, 'hex') };
}
