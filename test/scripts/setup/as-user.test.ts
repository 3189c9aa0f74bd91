import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readAs, replaceAs, replaceScript } from '../../../scripts/setup/as-user.ts';
import { readMachine } from '../../../scripts/setup/machine.ts';
import { runSync } from '../../support/run/command.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const machine = {
  ...readMachine('/'),
  users: new Map([['me', { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }]]),
};

describe("a file of a daemon's user", () => {
  it('is replaced whole, through a link, with mode 0600', () => {
    const directory = temporaryDirectory();
    const [file, link] = [join(directory, 'settings.json'), join(directory, 'a link')];
    writeFileSync(file, 'of before', { mode: 0o644 });
    symlinkSync(file, link);
    replaceAs('me', link, '{"a": "ö"}\n', machine);
    expect(readAs('me', link, machine)).toBe('{"a": "ö"}\n');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['a link', 'settings.json']);
  });

  it('stays as it is when the set-up that writes it is killed before all is written', () => {
    const directory = temporaryDirectory();
    const file = join(directory, 'settings.json');
    writeFileSync(file, 'of before');
    const argv = ['/bin/sh', '-c', replaceScript, 'sh', file, '100'];
    const { status, stderr } = runSync(argv, { input: '{"a": ' });
    expect({ status, stderr }).toEqual({ status: 1, stderr: 'the text was cut off\n' });
    expect(readFileSync(file, 'utf8')).toBe('of before');
    expect(readdirSync(directory)).toEqual(['settings.json']);
  });

  it('is undefined when it is missing, and an error when it cannot be read', () => {
    const directory = temporaryDirectory();
    expect(readAs('me', join(directory, 'none'), machine)).toBeUndefined();
    expect(() => readAs('me', directory, machine)).toThrow(/me cannot read .*: .*directory/);
  });
});
