import { commandHint, shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import type { UnitState } from './systemd.ts';

/** Lines of Serf's log about another agent of its name (handleNodeConflict in serf/serf/serf.go). */
export const nameConflict = 'minority in name conflict resolution|name conflicts with another node';

/** Answer of Serf's agent to the RPC. */
export type SerfReply =
  { kind: 'up'; isEncrypted: boolean | null } | { kind: 'refused' | 'down'; why: string };

export interface SerfAgent {
  reply: SerfReply;
  /** null: systemd does not run here. */
  unit: UnitState | null;
  /** Whether its log of the last hour tells of a conflict of names. */
  hasNameConflict: boolean;
  nodeName: string | null;
  /** User of the agent's process; null: none was found. */
  runsAs: string | null;
  /** User that it should run as. */
  user: string;
}

/** Restarts after which an agent is held to be in a loop: more than any administrator's own. */
const manyRestarts = 3;

/** Whether systemd starts the agent again and again. */
export function isRestartLoop(unit: UnitState | null): boolean {
  if (unit === null) return false;
  return (
    unit.subState === 'auto-restart' ||
    (unit.restarts >= manyRestarts && unit.activeState !== 'active')
  );
}

/** The finding about an agent in a restart loop, for doctor and status alike. */
export function restartLoopText({ restarts }: Pick<UnitState, 'restarts'>): string {
  return `Serf's agent ends and is started again and again (${restarts} times so far)`;
}

export const serfJournal = 'journalctl -u serf -n 20';

const { ok, warn, fail } = checkOf('serf-agent', 'Serf agent');

/** Judges whether the agent is up, and as which user. */
export function judgeAgent(agent: SerfAgent): Check {
  const { reply, unit, hasNameConflict, nodeName, runsAs, user } = agent;
  const service = unit === null ? 'service serf restart' : 'systemctl restart serf';
  if (hasNameConflict)
    return fail(
      `another agent has the name ${nodeName ?? 'of this node'}, so this one ends (name conflict)`,
      'editor /etc/serf/10-p2p-update.json',
      service,
    );
  if (unit !== null && isRestartLoop(unit)) return fail(restartLoopText(unit), serfJournal);
  if (reply.kind === 'refused') return fail(reply.why);
  if (reply.kind === 'down')
    return fail(
      reply.why,
      ...(unit === null ? [service] : ['systemctl enable --now serf', serfJournal]),
    );
  if (runsAs !== null && runsAs !== user)
    return fail(
      `the agent runs as ${runsAs}, and with it every handler, not as ${user}`,
      commandHint('setup'),
      ...(unit === null ? [] : ['systemctl daemon-reload']),
      service,
    );
  if (unit !== null && unit.restarts >= manyRestarts)
    return warn(`the agent was restarted ${unit.restarts} times since the boot`, serfJournal);
  if (unit !== null && unit.fileState === 'disabled')
    return warn('the agent runs, and does not start at boot', 'systemctl enable serf');
  return ok(runsAs === null ? 'answers' : `answers, runs as ${runsAs}`);
}

/** The command that shows whom a port belongs to. */
export function portCommand(port: number): string {
  return shellCommand('ss', '-tlnp', `sport = :${port}`);
}
