/**
 * copy-probe.ts SOURCE TARGET LENGTH SHA256 [grow]: copies content as the apply side does, for a test that
 * counts the bytes read from outside; prints why it was refused, or `copied`. With `grow` the source
 * grows from the moment at which the copy begins.
 */
import { appendFileSync, existsSync } from 'node:fs';
import { copyVerified } from '../../lib/content/copy-verified.ts';

const [source = '', target = '', length, sha256 = '', grow] = process.argv.slice(2);
const update = { length: Number(length), sha256, pieces: new Uint8Array(), pieceLength: 16_384 };
let isDone = false;
const append = (): void => {
  if (isDone) return;
  if (existsSync(target)) appendFileSync(source, Buffer.alloc(4_096));
  setImmediate(append);
};
if (grow === 'grow') append();
const mismatch = await copyVerified(source, target, update);
isDone = true;
process.stdout.write(mismatch?.reason ?? 'copied');
