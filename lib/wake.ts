import { spawn } from 'node:child_process';
import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { programFile } from './build.ts';
import type { Config } from './config.ts';

const closeOnExec = 0o2000000;

/**
 * Wakes the reconciler after a fact was written.
 *
 * With the trigger `spool` the fact is enough: a systemd path unit or cron sees it, and no process of
 * ours lives inside the service of Serf or Transmission, whose restart would kill it. With `spawn` the
 * reconciler is started detached, in a session of its own. It inherits no descriptor: a background child
 * that holds Serf's pipe blocks its event loop, and the hook inherits the listening sockets of
 * Transmission.
 *
 * @param env the reconciler's environment
 */
export function wakeReconciler(config: Config, env: NodeJS.ProcessEnv): void {
  if (config.trigger === 'spool') return;
  closeInherited();
  const child = spawn(process.execPath, [programFile(), 'reconcile', '--no-wait'], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
    env,
  });
  // Without a process the timer or the next event finishes the work: the fact is kept.
  child.on('error', () => undefined);
  child.unref();
}

/**
 * Closes every descriptor from 3 up that a child would inherit. Node opens its own with O_CLOEXEC, so
 * the others came from the daemon that started this process (libuv marks inherited ones only up to the
 * first gap).
 */
function closeInherited(): void {
  for (const name of readdirSync('/proc/self/fd')) {
    const descriptor = Number(name);
    if (descriptor < 3) continue;
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'));
      if ((parseInt(flags?.[1] ?? '', 8) & closeOnExec) === 0) closeSync(descriptor);
    } catch {
      // The descriptor of the listing itself is closed by now.
    }
  }
}
