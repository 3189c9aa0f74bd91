import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../../lib/config.ts';
import {
  isOurs,
  requireOwnership,
  requireUnwritable,
} from '../../../../lib/reconciler/apply/ownership.ts';
import { refusal } from '../../../support/run/refusal.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const lesserUser = 12_345;
/** Only root can give files away. */
const canGiveAway = process.geteuid?.() === 0;

function makeFile(...parts: string[]): { top: string; file: string } {
  const top = temporaryDirectory();
  const file = join(top, ...parts);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, '');
  return { top, file };
}

describe('a path that root relies on', () => {
  it('is accepted when it and all its parents are ours and closed to others', () => {
    const { file } = makeFile('etc', 'config.json');
    requireUnwritable(file);
  });

  it.each([
    ['the file itself', 'etc/config.json', 0o664],
    ['its directory', 'etc', 0o777],
    ['a directory further up', '.', 0o775],
  ])('is refused when others can write %s', (_, path, mode) => {
    const { top, file } = makeFile('etc', 'config.json');
    chmodSync(join(top, path), mode);
    const { code, message, hint } = refusal(() => {
      requireUnwritable(file);
    });
    expect(code).toBe('configuration');
    expect(message).toContain('can be written by others');
    expect(hint).toContain('setup');
  });

  it('is refused where a link leads to a place that others can write', () => {
    const { top, file } = makeFile('open', 'keyset.txt');
    chmodSync(join(top, 'open'), 0o777);
    mkdirSync(join(top, 'etc'));
    symlinkSync(file, join(top, 'etc', 'keyset.txt'));
    expect(
      refusal(() => {
        requireUnwritable(join(top, 'etc', 'keyset.txt'));
      }).message,
    ).toContain('open');
  });

  it('may lie in a sticky directory of root, where no other user can replace it', () => {
    const { top, file } = makeFile('etc', 'config.json');
    chmodSync(top, 0o1777);
    requireUnwritable(file);
  });

  it.runIf(canGiveAway)('is refused when it, or one above it, belongs to a lesser user', () => {
    for (const path of ['etc/config.json', 'etc']) {
      const { top, file } = makeFile('etc', 'config.json');
      chownSync(join(top, path), lesserUser, lesserUser);
      expect(
        refusal(() => {
          requireUnwritable(file);
        }).message,
      ).toContain(`belongs to user ${lesserUser}`);
    }
  });
});

describe('the apply side', () => {
  it.runIf(canGiveAway)('checks its paths where another user runs advance, and only there', () => {
    const top = temporaryDirectory();
    const at = (name: string): string => join(top, name);
    for (const name of ['state', 'apply', 'files', 'conf', 'modules']) mkdirSync(at(name));
    writeFileSync(at('keyset.txt'), '');
    const config = {
      ...parseConfig('{}', ''),
      stateDir: at('state'),
      applyDir: at('apply'),
      deliveryDir: at('files'),
      keySetFile: at('keyset.txt'),
    };
    const { puppet } = config;
    const own = {
      ...config,
      puppet: { ...puppet, confDir: at('conf'), moduleDir: at('modules') },
    };
    chmodSync(at('keyset.txt'), 0o666);
    requireOwnership(own, []);
    chownSync(at('state'), lesserUser, lesserUser);
    expect(isOurs(at('state'))).toBe(false);
    expect(
      refusal(() => {
        requireOwnership(own, []);
      }).code,
    ).toBe('configuration');
    chmodSync(at('keyset.txt'), 0o644);
    requireOwnership(own, []);
    chmodSync(at('apply'), 0o777);
    expect(
      refusal(() => {
        requireOwnership(own, []);
      }).message,
    ).toContain('apply');
  });
});
