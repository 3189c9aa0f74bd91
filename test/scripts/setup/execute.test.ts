import {
  linkSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SetupStep } from '../../../scripts/setup/plan.ts';
import { takeSetupStep } from '../../../scripts/setup/execute.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const ownership = { owner: 'root', group: 'root', mode: 0o640 };
const found = { type: 'file', uid: 0, gid: 0, mode: 0o600 } as const;
const correct = (path: string): SetupStep => ({ kind: 'correct', path, ownership, found });

/** A path may have changed between the plan and its execution. */
describe('takeSetupStep', () => {
  it.each<[string, SetupStep, (root: string, victim: string) => void]>([
    [
      'a file that has become a link',
      correct('/state/file'),
      (root, victim) => {
        symlinkSync(victim, join(root, 'state', 'file'));
      },
    ],
    [
      'a file that has become another name of a file elsewhere',
      correct('/state/file'),
      (root, victim) => {
        linkSync(victim, join(root, 'state', 'file'));
      },
    ],
    [
      'a directory on the way that has become a link',
      correct('/state/pending/secret'),
      (root, victim) => {
        symlinkSync(join(victim, '..'), join(root, 'state', 'pending'));
      },
    ],
    [
      'a new directory below a link',
      { kind: 'make-directory', path: '/state/pending/new', ownership },
      (root, victim) => {
        symlinkSync(join(victim, '..'), join(root, 'state', 'pending'));
      },
    ],
    [
      'a new file below a link',
      { kind: 'write-file', path: '/state/link/new', ownership, text: '', old: undefined },
      (root, victim) => {
        symlinkSync(join(victim, '..'), join(root, 'state', 'link'));
      },
    ],
    [
      'a new file where another entry was made meanwhile',
      { kind: 'write-file', path: '/state/link', ownership, text: '', old: undefined },
      (root, victim) => {
        symlinkSync(victim, join(root, 'state', 'link'));
      },
    ],
  ])('changes nothing outside through %s', (_, step, swap) => {
    const [root, elsewhere] = [temporaryDirectory(), temporaryDirectory()];
    mkdirSync(join(root, 'state'));
    const victim = join(elsewhere, 'secret');
    writeFileSync(victim, 'secret', { mode: 0o600 });
    swap(root, victim);
    const before = statSync(victim);
    expect(() => {
      takeSetupStep(step, root, 'none');
    }).toThrow(/ELOOP|ENOTDIR|one name|just now/);
    const { mode, uid, gid, size } = statSync(victim);
    expect({ mode, uid, gid, size }).toMatchObject({
      mode: before.mode,
      uid: before.uid,
      gid: before.gid,
      size: 6,
    });
    expect(readdirSync(elsewhere)).toEqual(['secret']);
  });

  it('corrects a file whose writer was killed before it took its temporary name away', () => {
    const root = temporaryDirectory();
    const at = (name: string): string => join(root, 'state', name);
    mkdirSync(join(root, 'state'));
    for (const name of ['file', '.tmp-other']) writeFileSync(at(name), name, { mode: 0o600 });
    linkSync(at('file'), at('.tmp-1-2-3'));
    takeSetupStep(correct('/state/file'), root, 'none');
    expect(statSync(at('file'))).toMatchObject({ nlink: 1, mode: 0o100_640 });
    // A young one may be in use: after ten minutes the next file that is written there takes it away.
    expect(readdirSync(join(root, 'state')).sort()).toEqual(['.tmp-other', 'file']);
    utimesSync(at('.tmp-other'), 0, 0);
    const write = { kind: 'write-file', path: '/state/new', ownership, text: '' } as const;
    takeSetupStep({ ...write, old: undefined }, root, 'none');
    expect(readdirSync(join(root, 'state')).sort()).toEqual(['file', 'new']);
  });
});
