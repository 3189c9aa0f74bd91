import type { CommandResult } from '../support/run/command.ts';
import type { SplitNode } from '../support/split/node.ts';

/** A line of a file in /etc/cron.d. */
export interface CronJob {
  /** Five fields, or @reboot. */
  when: string;
  user: string;
  command: string;
  /** The variables that the file assigns above. */
  env: Record<string, string>;
}

/** Reads a file of /etc/cron.d (crontab(5)). */
export function readCronFile(text: string): CronJob[] {
  const env: Record<string, string> = {};
  return text.split('\n').flatMap((line) => {
    if (line === '' || line.startsWith('#')) return [];
    const [, name, value] = /^(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (name !== undefined) {
      env[name] = value ?? '';
      return [];
    }
    const job = /^(@\w+|(?:\S+\s+){4}\S+)\s+(\S+)\s+(.*)$/.exec(line);
    if (job === null) throw new Error(`cron would not understand: ${line}`);
    const [, when = '', user = '', command = ''] = job;
    return [{ when, user, command, env: { ...env } }];
  });
}

/** Runs a job as cron does: its user, its environment, its shell, in the directory HOME. */
export function runCronJob(machine: SplitNode, job: CronJob): Promise<CommandResult> {
  const { home } = machine.account(job.user);
  const defaults = { HOME: home, LOGNAME: job.user, SHELL: '/bin/sh', PATH: '/usr/bin:/bin' };
  const env = { ...defaults, ...job.env };
  // cronie runs nothing where it cannot enter HOME.
  return machine.runAs(
    job.user,
    ['/bin/sh', '-c', 'cd "$HOME" && exec "$SHELL" -c "$1"', 'sh', job.command],
    { env },
  );
}
