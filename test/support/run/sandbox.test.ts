import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from './repository.ts';
import { temporaryDirectory } from './temporary.ts';

/** Runs a shell script in a sandbox of its own, also where the test is in one already. */
function run(script: string, env: Record<string, string> = {}) {
  return spawnSync('sh', [join(repository, 'test/support/run/sandbox.sh'), 'sh', '-euc', script], {
    encoding: 'utf8',
    env: { ...process.env, P2P_UPDATE_SANDBOX: 'outside', ...env },
  });
}

const unavailable = 69;

describe.skipIf(run('exit 0').status === unavailable)('the sandbox', () => {
  it("removes its directory, and ends with the command's status", () => {
    const directory = temporaryDirectory();
    expect(run('echo x > "$TMPDIR/file"; exit 3', { TMPDIR: directory })).toMatchObject({
      status: 3,
      stderr: '',
    });
    expect(readdirSync(directory)).toEqual([]);
  });

  it('has shared memory of its own', () => {
    const left = '/dev/shm/p2p-update-test';
    writeFileSync(left, '');
    try {
      expect(run(`[ ! -e ${left} ]; touch ${left}-2`)).toMatchObject({ status: 0, stderr: '' });
      expect(existsSync(`${left}-2`)).toBe(false);
    } finally {
      rmSync(left);
    }
  });

  it('leaves what a mount shows that the command has left, and ends with its status', () => {
    const directory = temporaryDirectory();
    const shown = join(directory, 'shown');
    mkdirSync(shown);
    writeFileSync(join(shown, 'file'), '');
    const script = `
      mkdir "$TMPDIR/be 0low"
      mount --bind "$SHOWN" "$TMPDIR/be 0low"
      exit 3`;
    expect(run(script, { TMPDIR: directory, SHOWN: shown })).toMatchObject({
      status: 3,
      stderr: '',
    });
    expect(readdirSync(directory)).toEqual(['shown']);
    expect(readdirSync(shown)).toEqual(['file']);
  });
});
