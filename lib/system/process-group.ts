import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { UpdateError, hasErrno } from '../errors.ts';

/** Identity of one run; a process id alone may be given to another process later. */
export interface ProcessIdentity {
  /** The group's id, which is its leader's process id. */
  processGroup: number;
  /** Start of the leader, in clock ticks since boot: field 22 of proc_pid_stat(5). */
  startTime: string;
}

/** Environment variable that marks every process of a run, those that left its group included. */
export const runVariable = 'P2P_UPDATE_RUN';

/** The value of {@link runVariable} for one run. */
export function runId({ processGroup, startTime }: ProcessIdentity): string {
  return `${processGroup}-${startTime}`;
}

interface ProcessStat {
  pid: number;
  parent: number;
  group: number;
  isZombie: boolean;
  startTime: string;
}

/** Reads one process's line of /proc; undefined when the process is gone. */
export async function readProcess(pid: number): Promise<ProcessStat | undefined> {
  const text = await readProc(pid, 'stat');
  if (text === undefined) return undefined;
  // The command's name, in brackets, may itself hold brackets and spaces: count from the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    pid,
    parent: Number(fields[1]),
    group: Number(fields[2]),
    isZombie: fields[0] === 'Z' || fields[0] === 'X',
    startTime: fields[19] ?? '',
  };
}

async function readProc(pid: number, file: 'stat' | 'environ'): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'latin1');
  } catch (error) {
    // Gone meanwhile, or another user's.
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}

async function isMarked(pid: number, mark: string): Promise<boolean> {
  const environment = (await readProc(pid, 'environ')) ?? '';
  return `\0${environment}`.includes(`\0${runVariable}=${mark}\0`);
}

/**
 * Finds the living processes of a run: its leader, the leader's group, all their descendants, and every
 * process that carries the run's mark. The last is needed because Puppet calls setsid(2) for every
 * command that it executes (Puppet::Util::Execution.execute_posix), so that an exec's background
 * child leaves the group and, once its parent ends, the tree as well.
 */
async function findRun(run: ProcessIdentity): Promise<number[]> {
  const processes: ProcessStat[] = [];
  for (const name of await readdir('/proc')) {
    const stat = /^\d+$/.test(name) ? await readProcess(Number(name)) : undefined;
    if (stat !== undefined) processes.push(stat);
  }
  // Without its leader a group's number proves nothing: it may have been given out again.
  const isLeader = (p: ProcessStat): boolean =>
    p.pid === run.processGroup && p.startTime === run.startTime;
  const isLedByUs = processes.some(isLeader);
  const mark = runId(run);

  const found = new Set<number>();
  for (const p of processes) {
    const isMember = isLedByUs && p.group === run.processGroup;
    if (isMember || (await isMarked(p.pid, mark))) found.add(p.pid);
  }
  let before: number;
  do {
    before = found.size;
    for (const p of processes) if (found.has(p.parent)) found.add(p.pid);
  } while (found.size > before);
  // This process is never part of the run, even when the run itself started it.
  found.delete(process.pid);
  return processes.filter((p) => found.has(p.pid) && !p.isZombie).map((p) => p.pid);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}

/**
 * Ends every process of a run, with SIGTERM and, after `graceMs`, with SIGKILL; returns once none is
 * left, at once when there was none. A process that merely has the same number is left alone.
 *
 * @throws UpdateError `try-later` when one outlives SIGKILL by `killMs`, as in uninterruptible I/O
 */
export async function endProcessGroup(
  run: ProcessIdentity,
  { graceMs = 5_000, killMs = 10_000 } = {},
): Promise<void> {
  const began = performance.now();
  const asked = new Set<number>();
  for (;;) {
    const found = await findRun(run);
    if (found.length === 0) return;
    const elapsedMs = performance.now() - began;
    if (elapsedMs > graceMs + killMs) {
      throw new UpdateError(
        'try-later',
        `process ${found.join(', ')} of a Puppet run does not end`,
        {
          hint: 'see what it waits for (ps -o pid,stat,wchan,args), end it, then try again',
        },
      );
    }
    for (const pid of found) {
      if (elapsedMs > graceMs) signal(pid, 'SIGKILL');
      else if (!asked.has(pid)) signal(pid, 'SIGTERM');
      asked.add(pid);
    }
    await delay(50);
  }
}
