import { mkdirSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { contentName, parseAnnouncement, updateKey } from '../../../../lib/announcement/update.ts';
import { parseConfig } from '../../../../lib/config.ts';
import type { TransmissionClient } from '../../../../lib/daemons/transmission/client.ts';
import type { Torrent } from '../../../../lib/daemons/transmission/torrent.ts';
import { decideStep } from '../../../../lib/reconciler/advance/next-step.ts';
import { type AdvanceDeps, takeStep } from '../../../../lib/reconciler/advance/take-step.ts';
import { updatesDir } from '../../../../lib/state/layout.ts';
import { newProgress, type Progress, readProgress } from '../../../../lib/state/progress.ts';
import type { State } from '../../../../lib/state/states.ts';
import { replaceRecord } from '../../../../lib/system/record.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../../support/fleet/announce.ts';
import { noAnnounces } from '../../../support/fleet/memory-transmission.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const now = Math.floor(Date.now() / 1000);
const payload = signAnnouncement(makeAnnouncement({}), makeKeys());
const { update } = parseAnnouncement(payload);

const states: State[] = [
  ...(['ACCEPTED', 'QUEUED', 'STALLED', 'COMPLETE', 'STAGED', 'APPLYING', 'APPLIED'] as const),
  ...(['FAILED', 'POISONED', 'REJECTED', 'SUPERSEDED', 'EXPIRED', 'WITHDRAWN'] as const),
];
const record: fc.Arbitrary<Progress | undefined> = fc
  .option(
    fc.record({
      state: fc.constantFrom(...states),
      badContent: fc.integer({ min: 0, max: 3 }),
      queuedAgo: fc.constantFrom(undefined, 1, 100),
    }),
    { nil: undefined },
  )
  .map((found) =>
    found === undefined
      ? undefined
      : {
          ...newProgress(update),
          ...{ state: found.state, badContent: found.badContent },
          at:
            found.queuedAgo === undefined
              ? {}
              : { QUEUED: new Date((now - found.queuedAgo) * 1000).toISOString() },
        },
  );
const torrent: fc.Arbitrary<Torrent | undefined> = fc
  .option(
    fc.record({
      status: fc.constantFrom('stopped', 'checking', 'downloading', 'seeding', 'queued'),
      percentDone: fc.constantFrom(0, 0.5, 1),
      hasMetadata: fc.boolean(),
      totalSize: fc.constantFrom(update.length, update.length, 1),
      peersConnected: fc.constantFrom(0, 1),
    }),
    { nil: undefined },
  )
  .map((found) =>
    found === undefined
      ? undefined
      : {
          ...{ infoHash: update.infoHash, name: 'x', downloadDir: '/d', error: '' },
          ...{
            pieceLength: update.pieceLength,
            rateDownload: 0,
            rateUpload: 0,
            activeAt: 0,
            addedAt: 0,
          },
          ...{ files: [{ name: contentName(update), length: 1 }], uploadedEver: 0, trackers: [] },
          ...found,
        },
  );

const done = (): Promise<void> => Promise.resolve();
const transmission = {
  ...{ start: done, stop: done, verify: done, remove: done },
  add: () => Promise.resolve('added'),
  get: () => Promise.resolve(undefined),
  freeSpace: () => Promise.resolve(2 ** 40),
} as unknown as TransmissionClient;
const deps: AdvanceDeps = {
  ...{ transmission, ...noAnnounces(), nowSeconds: () => now, buildTime: 0, hooks: [] },
  ...{ log: () => undefined, warn: () => undefined },
};

it('takes a legal step, which has its effect, from any state of the disk and of Transmission', async () => {
  const directory = temporaryDirectory();
  const config = {
    ...parseConfig('{}', 'the defaults'),
    ...{ stateDir: `${directory}/state`, applyDir: `${directory}/apply` },
    ...{ downloadDir: `${directory}/downloads`, publishDir: `${directory}/publish` },
  };
  for (const name of ['state/updates', 'state/torrents', 'apply/complete'])
    mkdirSync(`${directory}/${name}`, { recursive: true });
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        torrent,
        progress: record,
        outcome: record,
        data: fc.constantFrom('whole', 'missing', 'elsewhere', 'cut', 'unseen'),
        space: fc.constantFrom(undefined, { free: 1, missing: 2 }, { free: 2, missing: 1 }),
        place: fc.constantFrom('download', 'publish', 'other'),
        daemonSeconds: fc.constantFrom(1, 50, 3600),
        isMarked: fc.boolean(),
        isCopied: fc.boolean(),
        isUnannounced: fc.boolean(),
        nowSeconds: fc.constantFrom(now, now + 10 ** 9),
      }),
      async (found) => {
        const file = `${updatesDir(config.stateDir)}/${updateKey(update)}`;
        const start = found.progress ?? newProgress(update);
        replaceRecord(file, start, 0o640, 'a copy');
        const step = decideStep({ update, ...found });
        const taken = takeStep(step, config, deps, update);
        // The directory of somebody else is not there.
        if (step.kind === 'copy') await expect(taken).rejects.toThrow('cannot be read');
        else expect(await taken).toBeInstanceOf(Array);
        const state = readProgress(updatesDir(config.stateDir), update)?.state;
        switch (step.kind) {
          case 'nothing':
          case 'wait':
          case 'copy':
            expect(state).toBe(start.state);
            break;
          case 'drop':
          case 're-add':
          case 'download':
            expect(state).toBe(step.state);
            break;
          case 'mark-complete':
          case 'complete':
            expect(state).toBe('COMPLETE');
            break;
          default:
            expect(state).toBe('QUEUED');
        }
      },
    ),
    { numRuns: 300 },
  );
});
