import { setTimeout as sleep } from 'node:timers/promises';
import type { LoggedLine } from '../../lib/system/event-log.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type DemoUpdate, hasEffect } from './contents.ts';
import { type Screen, seconds } from './screen.ts';

/** An update that was sent. */
export interface Sent {
  kind: string;
  channel: string;
  version: number;
  payload: string;
  /** The name of the node that sent it. */
  from: string;
  /** Unix milliseconds. */
  at: number;
}

/** Progress of a node with an update; times in milliseconds after it was sent, null for never. */
export interface NodeOutcome {
  name: string;
  acceptedMs: number | null;
  completeMs: number | null;
  appliedMs: number | null;
  state: 'MISSED' | 'ACCEPTED' | 'COMPLETE' | 'APPLIED' | 'WITHOUT EFFECT';
}

const pollMs = 100;
const timeoutMs = 60_000;
const answerTimeoutMs = 15_000;

/** Shows the progress of the nodes with an update until all have applied it, or a minute has passed. */
export async function follow(
  nodes: readonly FleetNode[],
  update: DemoUpdate,
  sent: Sent,
  screen: Screen,
): Promise<NodeOutcome[]> {
  const concerns = (event: LoggedLine): boolean =>
    event.channel === sent.channel && event.version === sent.version;
  const shown = new Set<string>();
  for (;;) {
    showNew(nodes, concerns, sent, shown, screen);
    const outcomes = nodes.map((node) => outcomeOf(node, sent, node.events().filter(concerns)));
    const count = (key: 'acceptedMs' | 'completeMs' | 'appliedMs'): string =>
      `${outcomes.filter((outcome) => outcome[key] !== null).length} of ${nodes.length}`;
    const elapsed = Date.now() - sent.at;
    const isDone = outcomes.every(({ appliedMs }) => appliedMs !== null);
    if (isDone || elapsed > timeoutMs) {
      screen.clearStatus();
      return outcomes.map((outcome, index) => {
        const config = nodes[index]?.config;
        const holds = config !== undefined && hasEffect(update, config);
        return outcome.state === 'APPLIED' && !holds
          ? { ...outcome, state: 'WITHOUT EFFECT' }
          : outcome;
      });
    }
    screen.status(
      `accepted ${count('acceptedMs')}, downloaded ${count('completeMs')}, applied ${count('appliedMs')}  ${seconds(elapsed)}`,
    );
    await sleep(pollMs);
  }
}

/** Waits until every node has decided on an update just sent; shows that, and returns how many refused. */
export async function followRefusal(
  nodes: readonly FleetNode[],
  sent: Sent,
  screen: Screen,
): Promise<number> {
  const concerns = (event: LoggedLine): boolean =>
    event.channel === sent.channel &&
    event.version === sent.version &&
    Date.parse(event.time) >= sent.at;
  const shown = new Set<string>();
  for (;;) {
    showNew(nodes, concerns, sent, shown, screen);
    const answers = nodes.flatMap(
      (node) => node.events().find((e) => e.handler === 'update' && concerns(e)) ?? [],
    );
    if (answers.length === nodes.length || Date.now() - sent.at > answerTimeoutMs) {
      screen.clearStatus();
      return answers.filter((e) => e.decision === 'refuse' && e.reason.includes('older')).length;
    }
    screen.status(`answered by ${answers.length} of ${nodes.length}`);
    await sleep(pollMs);
  }
}

function showNew(
  nodes: readonly FleetNode[],
  concerns: (event: LoggedLine) => boolean,
  sent: Sent,
  shown: Set<string>,
  screen: Screen,
): void {
  const fresh = nodes.flatMap((node) =>
    node
      .events()
      .filter(concerns)
      .map((event, index) => ({ node, event, key: `${node.name} ${index}` }))
      .filter(({ key }) => !shown.has(key)),
  );
  fresh.sort((a, b) => a.event.time.localeCompare(b.event.time));
  for (const { node, event, key } of fresh) {
    shown.add(key);
    const text = describeEvent(event, node.name === sent.from, screen);
    if (text !== undefined) screen.event(since(sent, event), node.name, text);
  }
}

/** An event in words; undefined for one that tells a spectator nothing. */
function describeEvent(event: LoggedLine, isSender: boolean, screen: Screen): string | undefined {
  const { handler, decision, reason } = event;
  switch (`${handler} ${decision}`) {
    case 'update accept':
      return `event received and accepted: ${reason}`;
    case 'update ring':
      return `event received, nothing new: ${reason}`;
    case 'update refuse':
      return screen.style('yellow', `event received and refused: ${reason}`);
    case 'advance queued':
      return `download begins (${reason})`;
    case 'advance complete':
      return isSender ? 'has the content, and seeds it' : 'download complete';
    case 'apply applied':
      return screen.style('green', reason);
    default:
      break;
  }
  const isBad = ['refuse', 'failed', 'poisoned', 'rejected', 'expired', 'wait'].includes(decision);
  return isBad ? screen.style('red', `${handler}: ${decision}: ${reason}`) : undefined;
}

function outcomeOf(node: FleetNode, sent: Sent, events: readonly LoggedLine[]): NodeOutcome {
  const when = (handler: string, decision: string): number | null => {
    const event = events.find((e) => e.handler === handler && e.decision === decision);
    return event === undefined ? null : since(sent, event);
  };
  const acceptedMs = when('update', 'accept');
  const completeMs = when('advance', 'complete');
  const appliedMs = when('apply', 'applied');
  let state: NodeOutcome['state'] = 'MISSED';
  if (appliedMs !== null) state = 'APPLIED';
  else if (completeMs !== null) state = 'COMPLETE';
  else if (acceptedMs !== null) state = 'ACCEPTED';
  return { name: node.name, acceptedMs, completeMs, appliedMs, state };
}

/** Submit takes its time when Serf has sent the event: a fast node may have it by then. */
function since(sent: Sent, event: LoggedLine): number {
  return Math.max(0, Date.parse(event.time) - sent.at);
}
