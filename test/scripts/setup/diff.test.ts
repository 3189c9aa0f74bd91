import { describe, expect, it } from 'vitest';
import { formatDiff } from '../../../scripts/setup/diff.ts';
import type { SetupStep } from '../../../scripts/setup/plan.ts';

const ownership = { owner: 'root', group: 'root', mode: 0o644 };
const write = (path: string, text: string, old?: string): SetupStep => ({
  ...{ kind: 'write-file', path, text, old, ownership },
});

describe('formatDiff', () => {
  it('shows a change as a unified diff, a new file against /dev/null', () => {
    expect(formatDiff(write('/etc/a.json', '{\n "b": 2\n}\n', '{\n "b": 1\n}\n'))).toBe(
      '--- /etc/a.json\n+++ /etc/a.json\n@@ -1,3 +1,3 @@\n {\n- "b": 1\n+ "b": 2\n }\n',
    );
    expect(formatDiff(write('/etc/a', 'x\\y\n'))).toMatch(/^--- \/dev\/null\n[^]*\n\+x\\y\n$/);
  });

  it('shows no secret, and tells whether one changes', () => {
    const keys = (key: string): string => `{"encrypt_key": "${key}", "rpc_auth": "a\\"${key}"}\n`;
    const changed = formatDiff(write('/etc/serf/keys.json', keys('NEW'), keys('OLD')));
    expect(changed).toContain('+{"encrypt_key": "(a new secret)", "rpc_auth": "(a new secret)"}');
    expect(changed).toContain('(the old secret)');
    const settings: SetupStep = {
      ...{ kind: 'write-settings', path: '/s.json', user: 'u' },
      text: '{\n"rpc-password": "{OLD",\n"umask": 23\n}',
      old: '{\n"rpc-password": "{OLD",\n"umask": 18\n}',
    };
    expect(formatDiff(settings)).toContain(' "rpc-password": "(secret)",\n-"umask": 18');
    const key = formatDiff(write('/etc/p2p-update/keys/root.key', 'OLD NEW'));
    for (const text of [changed, formatDiff(settings), key]) expect(text).not.toMatch(/OLD|NEW/);
  });

  it('escapes what would steer a terminal', () => {
    expect(formatDiff(write('/etc/a', '\u001b[2J\n'))).toContain('+\\u001b[2J');
  });
});
