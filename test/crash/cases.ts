import { existsSync } from 'node:fs';
import type { TransmissionClient } from '../../lib/daemons/transmission/client.ts';
import type { Expected } from './check.ts';
import type { CrashNode } from './crash-node.ts';

/** A program in a state of the node, and its required effect after any number of interruptions. */
export interface CrashCase {
  name: string;
  /** Whether it needs Transmission. */
  needsDaemon?: boolean;
  /** Its run takes a minute by its nature. */
  fullOnly?: boolean;
  /** Number of its points to try: it is slow, and another case has the same calls. */
  maxPoints?: number;
  /** Brings a new node into the state before. */
  prepare(node: CrashNode): Prepared;
}

export interface Prepared {
  /** Below dist/. */
  program: string;
  env?: Record<string, string>;
  input?: string;
  expected: Expected[];
  /** Brings Transmission, which has no torrent, into the state before. */
  arrange?(transmission: TransmissionClient): Promise<void>;
  /**
   * Effect of a handler: without it the event counts as not taken, and its sender has to be able to send
   * it again.
   */
  isTaken?(): boolean;
  /** Programs that run afterwards; the apply side alone where nothing is to be downloaded. */
  reconcile: 'p2p-update.cjs apply' | 'p2p-update.cjs reconcile';
  /** The exit statuses of a reconcile that can do its work; more where Transmission is down on purpose. */
  statuses?: number[];
}

/** The environment of a handler that Serf starts. */
export const serfEnvironment = {
  SERF_EVENT: 'user',
  SERF_USER_EVENT: 'update',
  SERF_USER_LTIME: '7',
  SERF_SELF_NAME: 'n1',
};

/** The environment in which a program's clock is set (faketime(1)), such as `+10m`. */
export function clockAt(time: string): Record<string, string> {
  const found = ['x86_64-linux-gnu', 'aarch64-linux-gnu', 'arm-linux-gnueabihf'].map(
    (machine) => `/usr/lib/${machine}/faketime/libfaketime.so.1`,
  );
  const library = found.find((path) => existsSync(path));
  if (library === undefined) throw new Error('libfaketime is missing: apt-get install faketime');
  return { LD_PRELOAD: library, FAKETIME: time };
}
