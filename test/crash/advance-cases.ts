import { rmSync } from 'node:fs';
import { keepPending } from '../../lib/state/facts.ts';
import { contentLocation, type Update } from '../../lib/announcement/update.ts';
import { waitFor } from '../support/run/wait-for.ts';
import { withdrawal } from './apply-cases.ts';
import type { CrashCase, Prepared } from './cases.ts';
import { torrentOf, type CrashNode } from './crash-node.ts';
import type { State } from '../../lib/state/states.ts';
import type { TransmissionClient } from '../../lib/daemons/transmission/client.ts';

const file = { kind: 'file', name: 'message' } as const;

const ends = (side: 'advance' | 'apply', update: Update, ...states: State[]) =>
  ({ id: update, side, states }) as const;

function reconciles(...expected: Prepared['expected']): Prepared {
  return { program: 'p2p-update.cjs reconcile', expected, reconcile: 'p2p-update.cjs reconcile' };
}

/** Accepts an update, with its data where Transmission looks for it, so that no peer has to send it. */
function accepted(node: CrashNode, content: string, fields = {}): Update {
  const update = node.accept(node.sign({ ...file, ...fields }, content));
  node.download(update, content);
  return update;
}

/** Gives Transmission a torrent, and waits until it has looked at the data. */
function holds(node: CrashNode, update: Update, isComplete = true) {
  return async (transmission: TransmissionClient): Promise<void> => {
    const { directory: downloadDir } = contentLocation(update, node.config.downloadDir);
    await transmission.add({ metainfo: torrentOf(update), downloadDir });
    await waitFor('Transmission has looked at the data', async () => {
      const torrent = await transmission.get(update.infoHash);
      if (torrent?.status === 'checking' || torrent?.status === 'queued') return false;
      return (torrent?.percentDone === 1) === isComplete;
    });
  };
}

/** Like {@link holds}, for an update of which no data has come yet. */
function lacks(node: CrashNode, update: Update) {
  rmSync(contentLocation(update, node.config.downloadDir).file);
  return holds(node, update, false);
}

/** Longer than a download may go without data before it is stalled (lib/reconciler/advance/next-step.ts). */
const stalledSeconds = 65;

/** Every stage of advance, with a real transmission-daemon. */
export const advanceCases: CrashCase[] = [
  {
    name: 'advance: queues',
    needsDaemon: true,
    prepare(node) {
      const update = accepted(node, 'queued');
      return reconciles(ends('advance', update, 'COMPLETE'), ends('apply', update, 'APPLIED'));
    },
  },
  {
    name: 'advance: completes, and apply follows',
    needsDaemon: true,
    prepare(node) {
      const update = accepted(node, 'complete');
      node.record('advance', update, 'QUEUED');
      const both = [ends('advance', update, 'COMPLETE'), ends('apply', update, 'APPLIED')];
      return { ...reconciles(...both), arrange: holds(node, update) };
    },
  },
  {
    name: 'advance: resumes',
    needsDaemon: true,
    prepare(node) {
      const update = accepted(node, 'stopped');
      node.record('advance', update, 'STALLED');
      const holdsIt = lacks(node, update);
      return {
        ...reconciles(ends('advance', update, 'QUEUED', 'STALLED')),
        async arrange(transmission) {
          await holdsIt(transmission);
          await transmission.stop(update.infoHash);
        },
      };
    },
  },
  {
    name: 'advance: supersedes',
    needsDaemon: true,
    prepare(node) {
      const old = accepted(node, 'old');
      node.record('advance', old, 'QUEUED');
      const arrange = holds(node, old);
      const update = accepted(node, 'new');
      return {
        ...reconciles(ends('advance', old, 'SUPERSEDED'), ends('apply', update, 'APPLIED')),
        arrange,
      };
    },
  },
  {
    name: 'advance: expires',
    needsDaemon: true,
    prepare(node) {
      const past = { created: 1_700_000_000, expires: 1_700_000_001 };
      const update = accepted(node, 'too late', past);
      node.record('advance', update, 'QUEUED');
      return { ...reconciles(ends('advance', update, 'EXPIRED')), arrange: holds(node, update) };
    },
  },
  {
    name: 'advance: withdraws',
    needsDaemon: true,
    prepare(node) {
      const old = accepted(node, 'unwanted');
      node.record('advance', old, 'QUEUED');
      const arrange = lacks(node, old);
      const update = withdrawal(node);
      const both = [ends('advance', old, 'WITHDRAWN'), ends('apply', update, 'APPLIED')];
      return { ...reconciles(...both), arrange };
    },
  },
  {
    name: 'advance: has bad content checked',
    needsDaemon: true,
    prepare(node) {
      const update = accepted(node, 'genuine');
      node.record('advance', update, 'COMPLETE');
      node.record('apply', update, 'QUEUED', { badContent: 1 });
      const both = [ends('advance', update, 'COMPLETE'), ends('apply', update, 'APPLIED')];
      return { ...reconciles(...both), arrange: holds(node, update) };
    },
  },
  {
    name: 'advance: takes an announcement that waited for the clock',
    needsDaemon: true,
    prepare(node) {
      const update = node.sign(file, 'pending');
      node.download(update, 'pending');
      keepPending(node.config.stateDir, update, update.payload);
      return reconciles(ends('apply', update, 'APPLIED'));
    },
  },
  {
    name: 'advance: removes data that nothing refers to',
    needsDaemon: true,
    prepare(node) {
      // More than are kept of a channel.
      for (const version of Array.from({ length: 18 }, (_, index) => index + 1)) {
        const old = accepted(node, `old ${version}`);
        node.record('advance', old, 'COMPLETE');
        node.record('apply', old, 'APPLIED');
        rmSync(contentLocation(old, node.config.downloadDir).file);
      }
      const update = accepted(node, 'newest');
      node.record('advance', update, 'QUEUED');
      return { ...reconciles(ends('apply', update, 'APPLIED')), arrange: holds(node, update) };
    },
  },
  {
    name: 'advance: stalls',
    needsDaemon: true,
    fullOnly: true,
    prepare(node) {
      const update = accepted(node, 'stalled');
      const lacksIt = lacks(node, update);
      return {
        ...reconciles(ends('advance', update, 'STALLED')),
        async arrange(transmission) {
          await lacksIt(transmission);
          // Queued a minute ago, but after the daemon's start, which otherwise may have forgotten its data.
          const isOld = async () => (await transmission.secondsActive()) > stalledSeconds + 3;
          await waitFor('Transmission has run for a while', isOld, 2000 * stalledSeconds);
          node.record('advance', update, 'QUEUED', {}, stalledSeconds);
        },
      };
    },
  },
];
