import { listAccepted, readAccepted } from '../../lib/state/facts.ts';
import { nameOf, updateKey } from '../../lib/announcement/update.ts';
import type { Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { countedRuns, effectOn, isInEffect, type SentUpdate } from './kill-updates.ts';
import type { Invariant } from './result.ts';
import { isApplied } from './two-reconciles.ts';

/** A breach of an invariant; `text` stays the same as long as it lasts. */
export interface Breach {
  invariant: Invariant;
  text: string;
}

/**
 * Lists the breaches on the nodes of a fleet that should be at rest.
 *
 * @param sent everything that was ever submitted
 * @param newest of these, the newest of each channel
 */
export function findBreaches(
  { nodes }: Fleet,
  sent: readonly SentUpdate[],
  newest: readonly SentUpdate[],
): Breach[] {
  return nodes.flatMap((node) => [
    ...notConverged(node, newest),
    ...lost(node, newest),
    ...appliedAgain(node),
    ...unverified(node, sent),
  ]);
}

function notConverged(node: FleetNode, newest: readonly SentUpdate[]): Breach[] {
  return newest
    .filter((update) => !isApplied(node, update))
    .map((update) => ({
      invariant: 'notConverged',
      text: `${node.name} has not applied ${nameOf(update)} after two reconciles`,
    }));
}

/** Lists facts that a handler's line in events.log, or an outcome, promises and that are not there. */
function lost(node: FleetNode, newest: readonly SentUpdate[]): Breach[] {
  const { stateDir } = node.config;
  const held = new Set(listAccepted(stateDir).map(updateKey));
  const accepted = node.events().filter((event) => event.decision === 'accept');
  const promised = newest.filter(({ channel, version }) =>
    accepted.some((event) => event.channel === channel && event.version === version),
  );
  const facts = promised
    .filter((id) => !held.has(updateKey(id)) || readAccepted(stateDir, id) === undefined)
    .map((id) => `${node.name} had accepted ${nameOf(id)}, and does not have it`);
  const effects = newest
    .filter((update) => isApplied(node, update) && !isInEffect(node, update))
    .map((update) => `${node.name} says that it has applied ${nameOf(update)}, and has not`);
  return [...facts, ...effects].map((text) => ({ invariant: 'lost', text }));
}

/** After a durable APPLIED there is a line for it in the log, or none where the kill came between. */
function appliedAgain(node: FleetNode): Breach[] {
  const applied = node
    .events()
    .filter(({ handler, decision }) => handler === 'apply' && decision === 'applied')
    .map(({ channel = '', version = 0 }) => updateKey({ channel, version }));
  const twice = applied.filter((key, index) => applied.indexOf(key) !== index);
  const again = countedRuns(node).filter(({ isAgain }) => isAgain);
  return [...new Set([...twice, ...again.map(({ key }) => key)])].map((key) => ({
    invariant: 'doubleApplied',
    text: `${node.name} has applied ${key} again after a durable APPLIED`,
  }));
}

/** Lists effects on a node that were not submitted as they are: at any moment each must be whole. */
export function unverified(node: FleetNode, sent: readonly SentUpdate[]): Breach[] {
  const effects = (kind: string): string[] =>
    sent.filter(({ content }) => content.kind === kind).map(({ content }) => content.effect);
  const files = (['file', 'module'] as const)
    .map((kind) => ({ kind, found: effectOn(node, kind) }))
    .filter(({ kind, found }) => found !== undefined && !effects(kind).includes(found))
    .map(({ kind }) => `${node.name} has a ${kind} that was not submitted`);
  const runs = countedRuns(node)
    .filter(
      ({ key, tag }) =>
        !sent.some((each) => updateKey(each) === key && each.content.effect === tag),
    )
    .map(({ key, tag }) => `${node.name} has run ${tag} as ${key}, which was not submitted`);
  return [...files, ...new Set(runs)].map((text) => ({ invariant: 'unverifiedApplied', text }));
}
