import { existsSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Update, updateKey } from '../../lib/announcement/update.ts';
import { listPending, readAccepted } from '../../lib/state/facts.ts';
import { stateDirectories } from '../../lib/state/layout.ts';
import { completionMarker } from '../../lib/state/markers.ts';
import { clockAt, type CrashCase, type Prepared, serfEnvironment } from './cases.ts';
import type { CrashNode } from './crash-node.ts';

const content = 'delivered by a handler case\n';

/** Advance cleans up, and finds no Transmission: it exits with 69, and the apply side goes on. */
const withoutDaemon = { reconcile: 'p2p-update.cjs reconcile' as const, statuses: [69] };

/** The update handler on an announcement of a file that is downloaded and marked already. */
function announced(node: CrashNode, update: Update): Prepared {
  node.download(update, content);
  node.mark(update);
  return {
    program: 'handlers/update.cjs',
    env: serfEnvironment,
    input: `${update.payload}\n`,
    expected: [{ id: update, side: 'apply', states: ['APPLIED'] }],
    isTaken: () => readAccepted(node.config.stateDir, update) !== undefined,
    ...withoutDaemon,
  };
}

const file = { kind: 'file', name: 'message' } as const;
const acceptedFile = (node: CrashNode, update: Update): string =>
  join(node.config.stateDir, 'announcements', updateKey(update));

/** Each handler that writes, in each way that it can take an event. */
export const handlerCases: CrashCase[] = [
  {
    name: 'update: first of a new node',
    prepare(node) {
      const prepared = announced(node, node.sign(file, content));
      for (const name of Object.keys(stateDirectories)) rmdirSync(join(node.config.stateDir, name));
      return prepared;
    },
  },
  {
    name: 'update: a newer version',
    prepare(node) {
      node.accept(node.sign(file, 'older'));
      return announced(node, node.sign(file, content));
    },
  },
  {
    name: 'update: the same again',
    prepare: (node) => announced(node, node.accept(node.sign(file, content))),
  },
  {
    name: 'update: repairs a damaged one',
    prepare(node) {
      const update = node.accept(node.sign(file, content));
      const stored = acceptedFile(node, update);
      writeFileSync(stored, readFileSync(stored, 'utf8').replace('payload', 'paylord'));
      return announced(node, update);
    },
  },
  {
    name: 'update: other bytes of a version',
    prepare(node) {
      const update = node.accept(node.sign(file, content));
      const other = node.sign({ ...file, version: update.version }, 'other bytes');
      return { ...announced(node, update), input: `${other.payload}\n` };
    },
  },
  {
    name: 'update: before the clock is set',
    prepare(node) {
      const update = node.sign(file, content);
      // An hour after the epoch, as on a machine without a battery.
      const env = clockAt('1970-01-01 01:00:00');
      const { stateDir } = node.config;
      const prepared = announced(node, update);
      return {
        ...prepared,
        env: { ...prepared.env, ...env },
        isTaken: () =>
          listPending(stateDir).some(({ payload }) => payload === update.payload) ||
          readAccepted(stateDir, update) !== undefined,
      };
    },
  },
  {
    name: 'transmission-done: first marker',
    prepare(node) {
      rmSync(join(node.config.applyDir, 'complete'), { recursive: true, force: true });
      return done(node);
    },
  },
  { name: 'transmission-done: a marker', prepare: (node) => done(node, true) },
  {
    name: 'transmission-done: the same again',
    prepare(node) {
      const prepared = done(node);
      node.run('p2p-update.cjs apply');
      return prepared;
    },
  },
  {
    name: 'member-join',
    prepare: (node) => ({
      program: 'handlers/member-join.cjs',
      env: { ...serfEnvironment, SERF_EVENT: 'member-join' },
      input: 'n2\t192.0.2.2\t\t\n',
      expected: [],
      isTaken: () => existsSync(join(node.config.stateDir, 'joined')),
      reconcile: 'p2p-update.cjs apply',
    }),
  },
  {
    name: 'latest',
    prepare: (node) => answers(node, 'update-latest', 'digest'),
  },
  {
    name: 'status',
    prepare: (node) => answers(node, 'update-status', 'summary'),
  },
];

/** A query's handler changes nothing but its log. */
function answers(node: CrashNode, query: string, input: string): Prepared {
  const update = node.accept(node.sign(file, content));
  node.download(update, content);
  node.mark(update);
  return {
    program: `handlers/${query.replace('update-', '')}.cjs`,
    env: { ...serfEnvironment, SERF_EVENT: 'query', SERF_QUERY_NAME: query, SERF_QUERY_LTIME: '7' },
    input: `${input}\n`,
    expected: [{ id: update, side: 'apply', states: ['APPLIED'] }],
    reconcile: 'p2p-update.cjs apply',
  };
}

function done(node: CrashNode, hasOther = false): Prepared {
  const update = node.accept(node.sign(file, content));
  node.download(update, content);
  if (hasOther) node.mark(node.sign(file, 'other'));
  return {
    program: 'handlers/transmission-done.cjs',
    env: { TR_TORRENT_HASH: update.infoHash },
    expected: [{ id: update, side: 'apply', states: ['APPLIED'] }],
    isTaken: () => existsSync(completionMarker(node.config.applyDir, update.infoHash)),
    ...withoutDaemon,
  };
}
