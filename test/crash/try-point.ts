import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventLogFile } from '../../lib/system/event-log.ts';
import { ageLeftOvers, checkEnd, takeSnapshot, type Found, type Snapshot } from './check.ts';
import type { Scene } from './lane.ts';
import { runInjected, type Ending, type Injection, type Point } from './strace.ts';
import { isRequest } from './trace.ts';

/** Result of one interruption; undefined figures: it did not meet its call. */
export interface Trial {
  found: Found;
  /** A run that was interrupted before its APPLIED was durable, and was run again: allowed. */
  wasRunAgain: boolean;
}

/**
 * Interrupts a program at one call, lets the node recover by at most two reconciles, and checks the
 * invariants.
 *
 * @returns undefined when the very call could not be met
 */
export async function tryPoint(
  scene: Scene,
  point: Point,
  injection: Injection,
): Promise<Trial | undefined> {
  const { program, trace } = scene;
  const ending = await runInjected(program, point, injection, trace, () => scene.restore());
  if (ending === undefined) return undefined;
  const isKill = injection === 'SIGKILL';
  const before = takeSnapshot(scene.node);
  const found = isKill ? [] : checkError(scene, point, ending);
  found.push(...(await recover(scene, before)));
  const { runs } = takeSnapshot(scene.node);
  const expected = new Set(scene.prepared.expected.map(({ id }) => `${id.channel}@${id.version}`));
  return { found, wasRunAgain: runs - before.runs > 0 && before.runs > 0 && expected.size > 0 };
}

/** Sends an event again that was not taken, and reconciles twice. */
async function recover(scene: Scene, before: Snapshot): Promise<Found> {
  const { node, prepared, program } = scene;
  const found: Found = [];
  if (prepared.isTaken !== undefined && !prepared.isTaken()) {
    const again = await scene.run(prepared.program, program.env, program.input);
    if (!prepared.isTaken())
      found.push({ invariant: 'lost', detail: `not taken again (${describe(again)})` });
  }
  const first = await scene.run(prepared.reconcile);
  const between = takeSnapshot(node);
  ageLeftOvers(node);
  const second = await scene.run(prepared.reconcile);
  for (const { status, stderr, wasEnded } of [first, second])
    if (!wasEnded && status !== 0 && prepared.statuses?.includes(status ?? -1) !== true)
      found.push({ invariant: 'notConverged', detail: `reconcile: ${String(status)} ${stderr}` });
  const end = checkEnd(node, prepared.expected, before, between);
  const wasEnded = first.wasEnded || second.wasEnded;
  if (!wasEnded || end.length === 0) return [...found, ...end];
  // One was taken for being in its background tasks, which can be a mistake on a slow machine.
  await scene.runPatiently(prepared.reconcile);
  return [...found, ...checkEnd(node, prepared.expected, before, takeSnapshot(node))];
}

/**
 * Checks the reaction of a program to an error: it may exit with 75 and be tried again; or with 0, when
 * its effect is durable all the same, or when its log names the update that waits.
 */
function checkError(scene: Scene, point: Point, ending: Ending): Found {
  const { prepared, node } = scene;
  const fault = (detail: string): Found => [
    { invariant: 'notConverged', detail: `${detail} (${describe(ending)})` },
  ];
  const { status, wasEnded } = ending;
  if (wasEnded || status === 75) return [];
  if (status === 69 && isRequest(point.call)) return [];
  // Such as a refusal, which only could not be logged.
  const isUsual =
    status === scene.usualStatus || prepared.statuses?.includes(status ?? -1) === true;
  if (status !== 0 && !isUsual) return fault(`exits with ${String(status)}, not 75`);
  if (prepared.isTaken !== undefined && !prepared.isTaken() && status === 0)
    return [{ invariant: 'lost', detail: 'exits with 0, and its effect is not there' }];
  return isForPeople(point) || prepared.isTaken !== undefined || isExplained(node.config)
    ? []
    : fault('exits with 0, and nothing tells of the error');
}

/** Whether a call writes what only people read: the log, that of a run, or who holds a lock. */
const isForPeople = ({ key }: Point): boolean =>
  key.includes('events.log') || key.includes('/runs/') || /write64 .*\.lock\b/.test(key);

/** Whether the last wake-up has logged the update that waits, or all went well in the end. */
function isExplained({ applyDir, stateDir }: { applyDir: string; stateDir: string }): boolean {
  return [applyDir, stateDir].some((directory) => {
    try {
      const lines = readFileSync(eventLogFile(directory), 'utf8');
      return /"decision":"(wait|applied)"/.test(lines);
    } catch {
      return false;
    }
  });
}

function describe({ status, stderr }: Ending): string {
  return `status ${String(status)}: ${stderr.trim().slice(0, 500)}`;
}

/** Directory of a trial's files, for a person who looks into a failure. */
export function placeOf(scene: Scene): string {
  return join(scene.node.directory);
}
