import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lastHolder, runExclusively } from '../../../lib/system/lock.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

describe('runExclusively', () => {
  it('leaves the work to the process that holds the lock', async () => {
    const file = join(temporaryDirectory(), 'lock');
    let isWorkDone = false;
    const outer = await runExclusively(
      file,
      () => '',
      async () => {
        const inner = await runExclusively(
          file,
          () => '',
          () => {
            isWorkDone = true;
            return Promise.resolve();
          },
        );
        expect(inner).toBe(false);
      },
    );
    expect(outer).toBe(true);
    expect(isWorkDone).toBe(false);
  });

  it('works again when a fact came meanwhile, even after its last look', async () => {
    const file = join(temporaryDirectory(), 'lock');
    let facts = 1;
    let runs = 0;
    await runExclusively(
      file,
      () => String(facts),
      () => {
        runs += 1;
        if (runs < 3) facts += 1;
        return Promise.resolve();
      },
    );
    expect(runs).toBe(3);
  });

  it('waits for the lock where it is to, and tells who holds it', async () => {
    const file = join(temporaryDirectory(), 'lock');
    const order: string[] = [];
    const nothing = (): string => '';
    let second: Promise<boolean> | undefined;
    await runExclusively(file, nothing, async () => {
      expect(lastHolder(file)?.pid).toBe(process.pid);
      expect(Math.abs((lastHolder(file)?.since ?? 0) - Date.now() / 1000)).toBeLessThan(60);
      const late = (): Promise<void> => Promise.resolve(void order.push('second'));
      expect(await runExclusively(file, nothing, late, 1)).toBe(false);
      second = runExclusively(file, nothing, late, 60_000);
      order.push('first');
    });
    expect(await second).toBe(true);
    expect(order).toEqual(['first', 'second']);
  });

  it('tells of no holder where nobody has said, or something else is there', () => {
    const file = join(temporaryDirectory(), 'lock');
    expect(lastHolder(file)).toBeUndefined();
    writeFileSync(file, 'rm -rf /');
    expect(lastHolder(file)).toBeUndefined();
  });

  it('unlocks when the work throws', async () => {
    const file = join(temporaryDirectory(), 'lock');
    const failing = runExclusively(
      file,
      () => '',
      () => Promise.reject(new Error('no')),
    );
    await expect(failing).rejects.toThrow('no');
    expect(
      await runExclusively(
        file,
        () => '',
        () => Promise.resolve(),
      ),
    ).toBe(true);
  });

  it('frees the lock at kill -9 of the holder, whose children do not keep it', async () => {
    const file = join(temporaryDirectory(), 'lock');
    const lock = join(import.meta.dirname, '../../../lib/system/lock.ts');
    const script = `
      import { spawn } from 'node:child_process';
      import { lastHolder, runExclusively } from ${JSON.stringify(lock)};
      await runExclusively(${JSON.stringify(file)}, () => '', async () => {
        const child = spawn('sleep', ['60'], { stdio: 'ignore' });
        console.log(child.pid);
        await new Promise(() => setTimeout(() => {}, 60000));
      });`;
    const holder = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { cwd: join(import.meta.dirname, '../../..'), stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const [output] = (await once(holder.stdout, 'data')) as [Buffer];
    const flock = (): number | null => spawnSync('flock', ['--nonblock', file, 'true']).status;
    try {
      expect(flock()).toBe(1);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      expect(flock()).toBe(0);
    } finally {
      process.kill(Number(output.toString()), 'SIGKILL');
    }
  });
});
