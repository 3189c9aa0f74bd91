import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  endProcessGroup,
  readProcess,
  runVariable,
  type ProcessIdentity,
} from '../../../lib/system/process-group.ts';
import {
  findCommand,
  maxLogBytes,
  runCommand,
  type RunOptions,
  type RunOutcome,
} from '../../../lib/system/run-command.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';
import { waitFor } from '../../support/run/wait-for.ts';

let dir: string;
const strays: ChildProcess[] = [];
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => {
  for (const child of strays.splice(0)) child.kill('SIGKILL');
});

function run(script: string, options: Partial<RunOptions> = {}): Promise<RunOutcome> {
  return runCommand({
    command: '/bin/sh',
    args: ['-c', script],
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    logFile: join(dir, 'log'),
    timeoutMs: 20_000,
    ...options,
  });
}

/** The process id that a script wrote into a file. */
async function pidIn(name: string): Promise<number> {
  return waitFor(`a process id in ${name}`, () => {
    const path = join(dir, name);
    const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
    return text.endsWith('\n') ? Number(text) : undefined;
  });
}

async function isAlive(pid: number): Promise<boolean> {
  const stat = await readProcess(pid);
  return stat !== undefined && !stat.isZombie;
}

describe('runCommand', () => {
  test('returns the exit status and both outputs in order, and writes a private log', async () => {
    const outcome = await run('echo one; echo two >&2; echo three; exit 3');
    expect(outcome).toMatchObject({
      exitCode: 3,
      signal: null,
      timedOut: false,
      output: 'one\ntwo\nthree\n',
    });
    expect(readFileSync(join(dir, 'log'), 'utf8')).toMatch(/^\$ \/bin\/sh .*\none\ntwo\nthree\n$/s);
    expect(statSync(join(dir, 'log')).mode & 0o777).toBe(0o600);
  });

  test('passes arguments as they are, and no variable of our environment', async () => {
    const hostile = ['a b', '$(touch escaped)', '; exit 9', "'", '"', '-n', '*', 'new\nline', ''];
    const { output } = await run('', {
      args: ['-c', 'printf "<%s>" "$@"; umask; env', 'sh', ...hostile],
    });
    expect(output).toContain(`${hostile.map((argument) => `<${argument}>`).join('')}0022\n`);
    const variables = output
      .slice(output.indexOf('0022\n') + 5)
      .trim()
      .split('\n');
    expect(variables.map((line) => line.split('=')[0]).sort()).toEqual([
      runVariable,
      'PATH',
      'PWD',
    ]);
  });

  test('gives the command no standard input and a session of its own', async () => {
    const { output } = await run('wc -c; cut -d" " -f1,5,6 /proc/$$/stat', {});
    const [bytes, stat] = output.trim().split('\n');
    expect(bytes).toBe('0');
    expect(new Set(stat?.split(' ')).size).toBe(1);
  });

  test('runs nothing before onStart has returned', async () => {
    const marker = join(dir, 'ran');
    let seen: unknown;
    const { exitCode } = await run(`: > "${marker}"`, {
      onStart: async ({ processGroup, startTime }) => {
        const stat = await readProcess(processGroup);
        await delay(200);
        const isIdentity = stat?.group === processGroup && stat.startTime === startTime;
        seen = { isIdentity, hasRun: existsSync(marker) };
      },
    });
    expect(seen).toEqual({ isIdentity: true, hasRun: false });
    expect(exitCode).toBe(0);
    expect(existsSync(marker)).toBe(true);
  });

  test('runs nothing at all when the start cannot be recorded', async () => {
    let identity: ProcessIdentity | undefined;
    const refused = run(`: > "${dir}/ran"`, {
      onStart: (started) => {
        identity = started;
        throw new Error('disk full');
      },
    });
    await expect(refused).rejects.toThrow('disk full');
    expect(existsSync(join(dir, 'ran'))).toBe(false);
    expect(await isAlive(identity?.processGroup ?? 0)).toBe(false);
  });

  test('runs nothing when it is killed before the start is on record', async () => {
    const module = new URL('../../../lib/system/run-command.ts', import.meta.url).href;
    const script = `
      import { runCommand } from ${JSON.stringify(module)};
      await runCommand({
        command: '/bin/sh', args: ['-c', ': > "$0"', ${JSON.stringify(join(dir, 'ran'))}],
        cwd: '/', env: {}, logFile: null, timeoutMs: 9000,
        onStart: ({ processGroup }) => {
          console.log(processGroup);
          process.kill(process.pid, 'SIGKILL');
        },
      });`;
    const args = ['--import', 'tsx', '--input-type=module', '-e', script];
    const { stdout, signal } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(signal).toBe('SIGKILL');
    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(1);
    await waitFor('the child to give up', async () => !(await isAlive(pid)));
    expect(existsSync(join(dir, 'ran'))).toBe(false);
  });

  test('ends the group, other sessions and orphans after the time-out', async () => {
    const outcome = await run(
      `sleep 600 & echo $! > "${dir}/child"
       setsid sh -c 'echo $$ > "${dir}/session"; sleep 600' &
       (setsid sh -c 'echo $$ > "${dir}/orphan"; sleep 600' &)
       echo $$ > "${dir}/leader"
       sleep 600`,
      { timeoutMs: 1000 },
    );
    expect(outcome).toMatchObject({ timedOut: true, exitCode: null });
    for (const name of ['leader', 'child', 'session', 'orphan'])
      expect(await isAlive(await pidIn(name)), name).toBe(false);
    expect(readFileSync(join(dir, 'log'), 'utf8')).toContain('[ended after 1 s]');
  });

  test('does not wait for a background child that holds the output, and lets it live on', async () => {
    const { exitCode } = await run(`sleep 600 & echo $! > "${dir}/service"; exit 0`);
    expect(exitCode).toBe(0);
    const pid = await pidIn('service');
    expect(await isAlive(pid)).toBe(true);
    process.kill(pid, 'SIGKILL');
  });

  test('ends the log at its limit, and lets the command go on', async () => {
    const outcome = await run(`head -c ${maxLogBytes + 1_000_000} /dev/zero; echo end >&2; exit 5`);
    expect(outcome.exitCode).toBe(5);
    const log = readFileSync(join(dir, 'log'));
    expect(log.length).toBeLessThan(maxLogBytes + 100);
    expect(log.subarray(-100).toString()).toContain(`beyond ${maxLogBytes} bytes is not kept]`);
  });

  test('does not follow a link in the place of the log', async () => {
    symlinkSync(join(dir, 'elsewhere'), join(dir, 'log'));
    await expect(run('true')).rejects.toMatchObject({ code: 'ELOOP' });
    expect(existsSync(join(dir, 'elsewhere'))).toBe(false);
  });

  test('does not end a command at once when its time-out is longer than a timer can hold', async () => {
    await expect(run('sleep 0.2', { timeoutMs: 2 ** 40 })).resolves.toMatchObject({ exitCode: 0 });
  });
});

describe('endProcessGroup', () => {
  /** A run of which only the record is left, as after kill -9 of the process that started it. */
  async function abandon(script: string): Promise<ProcessIdentity> {
    return new Promise((resolve) => {
      const promise = run(script, { onStart: resolve });
      promise.catch(() => undefined);
    });
  }

  test('ends a survivor and returns once it is gone', async () => {
    const identity = await abandon(`echo $$ > "${dir}/leader"; sleep 600`);
    const pid = await pidIn('leader');
    expect(pid).toBe(identity.processGroup);
    await endProcessGroup(identity);
    expect(await isAlive(pid)).toBe(false);
    await endProcessGroup(identity);
  });

  test('ends processes in another session when the leader is dead', async () => {
    const identity = await abandon(
      `setsid sh -c 'echo $$ > "${dir}/orphan"; sleep 600' & echo $$ > "${dir}/leader"; sleep 600`,
    );
    const [leader, orphan] = [await pidIn('leader'), await pidIn('orphan')];
    process.kill(leader, 'SIGKILL');
    await waitFor('the leader to die', async () => !(await isAlive(leader)));
    await endProcessGroup(identity);
    expect(await isAlive(orphan)).toBe(false);
  });

  test('sends SIGKILL to a process that ignores SIGTERM', async () => {
    const identity = await abandon(
      `trap '' TERM; echo $$ > "${dir}/leader"; while :; do sleep 1; done`,
    );
    // The file appears once the trap is set.
    const leader = await pidIn('leader');
    await endProcessGroup(identity, { graceMs: 300 });
    expect(await isAlive(leader)).toBe(false);
  });

  test('leaves alone a process that got the same number later', async () => {
    const child = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
    strays.push(child);
    const pid = child.pid ?? 0;
    const startTime = (await readProcess(pid))?.startTime ?? '';
    await endProcessGroup({ processGroup: pid, startTime: `${Number(startTime) - 1}` });
    expect(await isAlive(pid)).toBe(true);
    await endProcessGroup({ processGroup: pid, startTime });
    expect(await isAlive(pid)).toBe(false);
  });

  test.each([
    { processGroup: 0, startTime: '' },
    { processGroup: 1, startTime: '0' },
    { processGroup: -1, startTime: '1' },
    { processGroup: 2 ** 31, startTime: '1' },
  ])('does nothing for a record that names no process: %o', async (identity) => {
    await expect(endProcessGroup(identity)).resolves.toBeUndefined();
  });
});

test('findCommand finds an executable along the path', async () => {
  writeFileSync(join(dir, 'plain'), '');
  expect(await findCommand('sh', '/nowhere:/bin')).toBe('/bin/sh');
  expect(await findCommand('plain', dir)).toBeUndefined();
  expect(await findCommand(join(dir, 'plain'), '/bin')).toBeUndefined();
  expect(await findCommand('/bin/sh', '')).toBe('/bin/sh');
});
