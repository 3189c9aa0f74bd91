import { describe, expect, it } from 'vitest';
import { judgeMachine } from '../../../lib/health/machine.ts';
import {
  fingerprintOfMachine,
  recordedMachine,
  recordMachine,
} from '../../../lib/state/machine.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const id = '0123456789abcdef0123456789abcdef';

/** The fingerprint of a machine with these files. */
const fingerprint = (machineId: string, serial = ''): string | null =>
  fingerprintOfMachine((file) => (file === '/etc/machine-id' ? `${machineId}\n` : `${serial}\0`));

describe('the record of a machine', () => {
  it('differs for another id, and for another board with a copied card', () => {
    const first = fingerprint(id, '10000000a1b2c3d4');
    expect(first).toMatch(/^[0-9a-f]{32}$/);
    expect(first).not.toContain(id);
    expect(fingerprint(id, '10000000a1b2c3d4')).toBe(first);
    expect(fingerprint(id, '10000000ffffffff')).not.toBe(first);
    expect(fingerprint(id.replace('0', '1'), '10000000a1b2c3d4')).not.toBe(first);
  });

  it.each(['', 'uninitialized'])('is none before the first boot (%j)', (machineId) => {
    expect(fingerprint(machineId)).toBeNull();
  });

  it('is made once, and stays', () => {
    const directory = temporaryDirectory();
    expect(recordedMachine(directory)).toBeNull();
    recordMachine(directory);
    expect(recordedMachine(directory)).toBe(fingerprintOfMachine());
    expect(judgeMachine(recordedMachine(directory), fingerprintOfMachine()).verdict).toMatch(
      /^(?:ok|skipped)$/,
    );
  });

  it.each<[string | null, string | null, string]>([
    ['a', 'a', 'ok'],
    ['a', 'b', 'fail'],
    [null, 'b', 'skipped'],
    ['a', null, 'skipped'],
  ])('with %j recorded and %j found is %s', (recorded, actual, verdict) => {
    expect(judgeMachine(recorded, actual).verdict).toBe(verdict);
  });
});
