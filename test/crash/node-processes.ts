import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../../lib/errors.ts';

/** A living process, as proc(5) shows it. */
export interface NodeProcess {
  pid: number;
  argv: string[];
}

/**
 * The processes of one node of a test fleet: those in its network namespace.
 *
 * @param namespace a name of `ip netns`
 */
export function processesOf(namespace: string): NodeProcess[] {
  const { ino } = statSync(join('/run/netns', namespace));
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        if (statSync(`/proc/${name}/ns/net`).ino !== ino) return [];
        const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
        // A zombie has no command line.
        return argv.length === 0 ? [] : [{ pid: Number(name), argv }];
      } catch (error) {
        // It has ended meanwhile, or is about to.
        if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return [];
        throw error;
      }
    });
}

/** The processes of a node that run one of our programs, by its file name and command. */
export function programsOf(namespace: string, program: string): NodeProcess[] {
  return processesOf(namespace).filter(({ argv }) =>
    argv.slice(1).join(' ').endsWith(`/${program}`),
  );
}

/** The runs of Puppet on a node: each leads a process group (lib/system/run-command.ts). */
export function puppetRunsOf(namespace: string): NodeProcess[] {
  return processesOf(namespace).filter(
    ({ argv }) => /ruby/.test(argv[0] ?? '') && argv[1]?.endsWith('/puppet') === true,
  );
}

/**
 * Ends a process, or with a negative number its whole group, by SIGKILL.
 *
 * @returns whether there was one
 */
export function killNow(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}
