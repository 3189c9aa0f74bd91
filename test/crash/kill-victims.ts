import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Daemon } from '../support/fleet/daemon.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import type { SentUpdate } from './kill-updates.ts';
import { killNow, processesOf, programsOf, puppetRunsOf } from './node-processes.ts';
import { programArgv } from '../support/run/program.ts';

/** Victims of a kill. Reconcile is advance and, here where one user runs everything, apply. */
export const victims = [
  'serf',
  'transmission',
  'puppet',
  'reconcile',
  'apply',
  'handler',
  'hook',
] as const;
export type Victim = (typeof victims)[number];

const lookEveryMs = 4;

/** One planned kill. */
export interface Kill {
  victim: Victim;
  node: FleetNode;
  /** Age at which a program that was seen to start is killed. */
  afterMs: number;
  /** Delay until a service manager starts a daemon again. */
  restartMs: number;
}

/** The daemons that are being started again; a restart that failed for good rejects. */
export type Restarts = Map<Daemon, Promise<void>>;

/**
 * Carries out a kill. A program that does not run by itself within the time is started, as its trigger
 * would: the same event once more, the same hook once more, a timer.
 *
 * @param latest the update that event and hook are about
 * @param patienceMs time to look for the victim
 * @param restarts gets the restart of a daemon, to be awaited
 * @returns whether something was killed
 */
export async function carryOut(
  { victim, node, afterMs, restartMs }: Kill,
  latest: SentUpdate | undefined,
  patienceMs: number,
  restarts: Restarts,
): Promise<boolean> {
  switch (victim) {
    case 'serf':
    case 'transmission':
      return killDaemon(node, victim, restartMs, restarts);
    case 'puppet': {
      const run = await appears(() => puppetRunsOf(node.namespace)[0], patienceMs);
      if (run === undefined) return false;
      await delay(afterMs);
      return killNow(-run.pid);
    }
    case 'reconcile':
    case 'apply':
      return killProgram(node, `p2p-update.cjs ${victim}`, {}, { afterMs, patienceMs });
    case 'handler':
      return killProgram(
        node,
        'handlers/update.cjs',
        { env: serfEnvironment(node.configFile), input: `${latest?.payload ?? ''}\n` },
        { afterMs: afterMs / 5, patienceMs },
      );
    case 'hook':
      return killProgram(
        node,
        'handlers/transmission-done.cjs',
        { env: { TR_TORRENT_HASH: latest?.infoHash ?? '' }, input: '' },
        { afterMs: afterMs / 5, patienceMs },
      );
  }
}

/** A daemon that is down is no victim; one that is just being started again is. */
function killDaemon(
  node: FleetNode,
  name: 'serf' | 'transmission',
  restartMs: number,
  restarts: Restarts,
): boolean {
  const command = { serf: 'serf', transmission: 'transmission-daemon' }[name];
  const running = processesOf(node.namespace).find(
    ({ argv }) => argv[0] === command && /^(agent|--foreground)$/.test(argv[1] ?? ''),
  );
  if (running === undefined || !killNow(running.pid)) return false;
  const daemon = node[name];
  if (restarts.has(daemon)) return true;
  const restart = startAgain(daemon, restartMs).finally(() => restarts.delete(daemon));
  restart.catch(() => undefined);
  restarts.set(daemon, restart);
  return true;
}

async function killProgram(
  node: FleetNode,
  program: string,
  how: { env?: Record<string, string>; input?: string },
  { afterMs, patienceMs }: { afterMs: number; patienceMs: number },
): Promise<boolean> {
  const running = (): number | undefined => programsOf(node.namespace, program)[0]?.pid;
  let pid = await appears(running, patienceMs);
  if (pid === undefined) {
    const argv = ['netns', 'exec', node.namespace, ...programArgv(program)];
    const child = spawn('ip', argv, {
      env: { ...node.env, ...how.env },
      cwd: '/',
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(how.input);
    pid = await appears(running, 2_000);
  }
  if (pid === undefined) return false;
  await delay(afterMs);
  return killNow(pid);
}

async function appears<T>(look: () => T | undefined, patienceMs: number): Promise<T | undefined> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const found = look();
    if (found !== undefined || performance.now() > deadline) return found;
    await delay(lookEveryMs);
  }
}

/** Restarts a daemon as `Restart=on-failure` does, until it stays up. */
async function startAgain(daemon: Daemon, restartMs: number): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await delay(restartMs);
    try {
      await daemon.start();
      return;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}
