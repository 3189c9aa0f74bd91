import { commandHint, shellCommand } from '../command-hint.ts';
import type { Config } from '../config.ts';
import { describeError, hasErrno } from '../errors.ts';
import { currentKeySet } from '../state/key-chain.ts';
import { fingerprintOfMachine, recordedMachine } from '../state/machine.ts';
import type { KeySet } from '../trust/key-set.ts';
import { type Check, checkOf } from './check.ts';
import { judgeClock } from './clock.ts';
import { judgeDisks, readDisks } from './disk.ts';
import { judgeMachine } from './machine.ts';
import { judgePlaces, readPlaces } from './places.ts';

/** The key set in force, or the error that keeps the node from using it. */
export type KeySetReading = { keySet: KeySet } | { error: unknown };

/** Reads the key set in force; never throws. */
export function tryKeySet(config: Config): KeySetReading {
  try {
    return { keySet: currentKeySet(config) };
  } catch (error) {
    return { error };
  }
}

const { ok, fail } = checkOf('key-set', 'key set');

/** Judges the key set: without a usable one no update is accepted. */
export function judgeKeySet(reading: KeySetReading, { keySetFile }: Pick<Config, 'keySetFile'>) {
  if ('keySet' in reading)
    return ok(`fleet ${reading.keySet.fleet}, epoch ${reading.keySet.epoch}`);
  const { error } = reading;
  const place = commandHint('setup', '--keyset', 'keyset.txt');
  const isAbsent = error instanceof Error && hasErrno(error.cause, 'ENOENT');
  return isAbsent
    ? fail(describeError(error), place)
    : fail(describeError(error), shellCommand('mv', keySetFile, `${keySetFile}.old`), place);
}

export interface OwnCheckInput {
  keySet: KeySetReading;
  /** Creation of the newest announcement held, unix seconds; null: none. */
  newestCreated: number | null;
  nowSeconds: number;
  buildTime: number;
}

/**
 * Checks that need nothing but a few looks at this node's own files, the gravest first: the status handler
 * makes them within Serf's loop, and `p2p-update doctor` among its own.
 */
export function ownChecks(config: Config, input: OwnCheckInput): Check[] {
  return [
    judgeDisks(readDisks(config)),
    judgeKeySet(input.keySet, config),
    judgePlaces(readPlaces(config)),
    judgeClock(input),
    judgeMachine(recordedMachine(config.applyDir), fingerprintOfMachine()),
  ];
}
