import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { countFailures } from '../crash/result.ts';
import { sampler } from '../crash/sample.ts';
import { findPoints } from '../crash/strace.ts';
import { isStateChanging, keyOf, parseTrace, requestMethod } from '../crash/trace.ts';
import { repository } from '../support/run/repository.ts';
import { runSync } from '../support/run/command.ts';

const script = join(repository, 'test/crash/main.ts');

function crash(...args: string[]) {
  const command = [process.execPath, '--import', 'tsx', script, ...args];
  return runSync(command, { cwd: repository, timeoutMs: 600_000 });
}

describe('npm run crash', () => {
  it('interrupts every program, and every promise holds', () => {
    const { status, stdout, stderr } = crash('--part', 'points', '--short', '--json');
    expect(stderr.replaceAll(/^crash: warning: never met: .*\n/gm, '')).toBe('');
    const result = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as object;
    expect(result).toMatchObject({
      ...{ powerCuts: 0, randomKills: 0 },
      ...{ lost: 0, doubleApplied: 0, unverifiedApplied: 0, notConverged: 0 },
    });
    const { points, errorPoints } = result as { points: number; errorPoints: number };
    expect(points).toBeGreaterThanOrEqual(15);
    expect(errorPoints).toBeGreaterThanOrEqual(12);
    expect(status).toBe(0);
  });

  it.each([
    [['--seed', 'x'], /--seed must be/],
    [['--part', 'all'], /--part must be/],
    [['--quick'], /--quick/],
  ])('refuses %j', (args, message) => {
    const { status, stdout, stderr } = crash(...args);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toMatch(message);
  });
});

const node = '/tmp/a node';
const trace = [
  `7 openat(AT_FDCWD</>, "${node}/state/.tmp-7-abc-1", O_WRONLY|O_CREAT|O_EXCL, 0640) = 18<${node}/state/.tmp-7-abc-1>`,
  `7 write(18<${node}/state/.tmp-7-abc-1>, "{\\"a\\":\\"/x\\"} = 7", 9 <unfinished ...>`,
  `8 rename("${node}/apply/a", "${node}/apply/b") = 0`,
  '7 <... write resumed>)             = 9',
  `8 mkdir("${node}/apply/c", 0700) = -1 EEXIST (File exists)`,
  `8 openat(AT_FDCWD</>, "${node}/state", O_RDONLY|O_CLOEXEC) = 19<${node}/state>`,
  `8 fsync(19<${node}/state>) = -1 EIO (Input/output error) (INJECTED)`,
  '8 write(20<TCP:[127.0.0.1:5->127.0.0.1:9091]>, "{\\"method\\":\\"torrent-add\\"}", 24) = 24',
  '8 write(20<TCP:[127.0.0.1:5->127.0.0.1:9091]>, "{\\"method\\":\\"torrent-get\\"}", 24) = 24',
  '7 +++ killed by SIGKILL +++',
].join('\n');

describe("the reader of strace's output", () => {
  const calls = parseTrace(trace);

  it('finds every call, whole, with its thread, paths and result', () => {
    expect(calls.map(({ thread, name, result }) => [thread, name, result])).toEqual([
      [7, 'openat', `18<${node}/state/.tmp-7-abc-1>`],
      [7, 'write', '9'],
      [8, 'rename', '0'],
      [8, 'mkdir', '-1 EEXIST (File exists)'],
      [8, 'openat', `19<${node}/state>`],
      [8, 'fsync', '-1 EIO (Input/output error) (INJECTED)'],
      [8, 'write', '24'],
      [8, 'write', '24'],
    ]);
    expect(calls[1]?.paths).toEqual([`${node}/state/.tmp-7-abc-1`]);
    expect(calls[2]?.paths).toEqual([`${node}/apply/a`, `${node}/apply/b`]);
    expect(calls.filter(({ isInjected }) => isInjected)).toHaveLength(1);
  });

  it('counts the calls that change something, not those that only read, ask, or failed', () => {
    const changing = calls.filter((call) => isStateChanging(call, node));
    expect(changing.map((call) => keyOf(call, node))).toEqual([
      'openat state/.tmp-*',
      'write state/.tmp-*',
      'rename apply/a apply/b',
      'write torrent-add',
    ]);
    expect(isStateChanging(calls[2] ?? never(), '/elsewhere')).toBe(false);
    expect(requestMethod(calls[7]?.text ?? '')).toBe('torrent-get');
  });

  it('takes a call that its process did not survive as not ended', () => {
    const [killed] = parseTrace(`rename("${node}/a", "${node}/b") = ?\n+++ killed by SIGKILL +++`);
    expect(killed).toMatchObject({ thread: 0, name: 'rename', result: '?' });
  });

  it('names each point, and tells equal calls apart', () => {
    const twice = findPoints('case', [...calls, ...calls], node);
    expect(twice).toHaveLength(8);
    expect(twice[6]).toMatchObject({ name: 'case/7 rename apply/a apply/b', occurrence: 2 });
    // By its path it is the second one, by its thread's calls of that name as well.
    expect(twice[6]?.aims).toEqual([
      { path: `${node}/apply/a`, when: 2, allThreads: true },
      { path: undefined, when: 2, allThreads: true },
    ]);
    expect(twice[0]?.aims).toEqual([{ path: undefined, when: 1, allThreads: false }]);
  });
});

it('chooses the same points from the same seed, and others from another seed', () => {
  const items = Array.from({ length: 100 }, (_, index) => index);
  const chosen = sampler('1')(items, 10);
  expect(chosen).toHaveLength(10);
  expect(sampler('1')(items, 10)).toEqual(chosen);
  expect(sampler('2')(items, 10)).not.toEqual(chosen);
});

it('counts each invariant that broke', () => {
  const failure = { invariant: 'lost', point: 'p', detail: '' } as const;
  expect(countFailures([failure, failure, { ...failure, invariant: 'doubleApplied' }])).toEqual({
    ...{ lost: 2, doubleApplied: 1, unverifiedApplied: 0, notConverged: 0 },
  });
});

function never(): never {
  throw new Error('not reached');
}
