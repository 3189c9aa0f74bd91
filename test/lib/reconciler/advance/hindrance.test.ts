import { describe, expect, it } from 'vitest';
import type { TransmissionClient } from '../../../../lib/daemons/transmission/client.ts';
import { UpdateError } from '../../../../lib/errors.ts';
import { advance } from '../../../../lib/reconciler/advance/advance.ts';
import { updatesDir } from '../../../../lib/state/layout.ts';
import { readProgress } from '../../../../lib/state/progress.ts';
import type { LoggedEvent } from '../../../../lib/system/event-log.ts';
import { makeApplySide } from '../../../support/fleet/apply-side.ts';
import { MemoryTransmission, noAnnounces } from '../../../support/fleet/memory-transmission.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const channels = 12;
const silent = new UpdateError('unavailable', 'Transmission: no answer within 10 s', { hint: '' });
const full = new UpdateError('configuration', 'Transmission refused torrent-add: full', {
  hint: '',
});

/** A node with an update on each of 12 channels; `pass` runs advance with a daemon of which calls fail. */
function makeNode() {
  const side = makeApplySide(temporaryDirectory());
  const { config } = side;
  const updates = Array.from({ length: channels }, (_, index) => {
    const fields = { kind: 'file', channel: `c-${index}`, name: 'f.bin' } as const;
    return side.receive(fields, Buffer.from(`${index}`));
  });
  const swarm = new Map(
    updates.map(({ infoHash }) => [
      infoHash,
      { name: infoHash, pieceLength: 16_384, bytes: Buffer.from(infoHash) },
    ]),
  );
  const daemon = new MemoryTransmission(swarm, config.downloadDir);
  let calls = 0;
  const pass = async (failing: Partial<Record<keyof TransmissionClient, UpdateError>> = {}) => {
    calls = 0;
    const lines: Omit<LoggedEvent, 'handler'>[] = [];
    const client = daemon.connect();
    const broken = Object.fromEntries(
      Object.entries(failing).map(([name, error]) => [
        name,
        () => {
          calls += 1;
          return Promise.reject(error);
        },
      ]),
    );
    const tasks = await advance(config, {
      ...noAnnounces(),
      transmission: { ...client, ...broken },
      nowSeconds: () => Math.floor(Date.now() / 1000),
      buildTime: 0,
      log: (line) => lines.push(line),
      warn: () => undefined,
      hooks: [],
    });
    const ends = await Promise.allSettled(tasks);
    const errors = ends.flatMap((end) =>
      end.status === 'rejected' ? [end.reason as unknown] : [],
    );
    return { calls, errors, lines };
  };
  const reasons = (): (string | undefined)[] =>
    updates.map((update) => readProgress(updatesDir(config.stateDir), update)?.reason);
  return { pass, reasons };
}

const all = (reason: string): string[] => Array.from({ length: channels }, () => reason);

describe('a daemon that does not answer', () => {
  it.each<keyof TransmissionClient>(['session', 'list', 'add'])(
    'ends the pass at its first failure, of %s, and is the reason of every update that needs it',
    async (method) => {
      const { pass, reasons } = makeNode();
      const { calls, errors, lines } = await pass({ [method]: silent });
      expect(calls).toBe(1);
      expect(errors).toEqual([silent]);
      expect(reasons()).toEqual(all(silent.message));
      expect(lines).toContainEqual({ decision: 'wait', reason: silent.message });
      await pass();
      expect(reasons()).toEqual(all('in Transmission'));
    },
  );

  it('costs each channel its own failure where it does answer', async () => {
    const { pass, reasons } = makeNode();
    const { calls, errors } = await pass({ add: full });
    expect(calls).toBe(channels);
    expect(errors).toHaveLength(channels);
    expect(reasons()).toEqual(all(full.message));
  });
});
