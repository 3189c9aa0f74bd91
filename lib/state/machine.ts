import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createDurably } from '../system/durable-write.ts';

/** File that says which machine this node is, so that a copy of its disk is noticed. */
export const machineFile = (applyDir: string): string => join(applyDir, 'machine');

/** machine-id(5), and the serial number of a board with a device tree: a card that is copied keeps the former. */
const sources = ['/etc/machine-id', '/proc/device-tree/serial-number'];

/**
 * A fingerprint of this machine: 32 hex digits, from which no id can be had back, as machine-id(5) wishes.
 *
 * @returns null where there is no id yet, as in an image
 */
export function fingerprintOfMachine(read: (file: string) => string = readText): string | null {
  const [id = '', serial = ''] = sources.map((file) => read(file).replaceAll('\0', '').trim());
  if (!/^[0-9a-f]{32}$/.test(id) && serial === '') return null;
  return createHash('sha256').update(`p2p-update ${id} ${serial}`).digest('hex').slice(0, 32);
}

/** Records this machine at the first run of the apply side: that of an image comes after its first boot. */
export function recordMachine(applyDir: string): void {
  if (readText(machineFile(applyDir)) !== '') return;
  const fingerprint = fingerprintOfMachine();
  if (fingerprint !== null) createDurably(machineFile(applyDir), `${fingerprint}\n`, 0o644);
}

/** The machine on record; null: none. */
export function recordedMachine(applyDir: string): string | null {
  const text = readText(machineFile(applyDir)).trim();
  return text === '' ? null : text;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
