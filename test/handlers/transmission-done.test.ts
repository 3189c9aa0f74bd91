import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readState } from '../support/run/state.ts';
import { runSync } from '../support/run/command.ts';

const handler = join(import.meta.dirname, '../../dist/handlers/transmission-done.cjs');
const infoHash = '0123456789abcdef0123456789abcdef01234567';

function makeNode() {
  const directory = temporaryDirectory();
  const stateDir = join(directory, 'state');
  const configFile = join(directory, 'config.json');
  mkdirSync(stateDir);
  const applyDir = join(directory, 'apply');
  mkdirSync(applyDir);
  writeFileSync(configFile, JSON.stringify({ stateDir, applyDir }));
  const run = (env: Record<string, string>, cwd = '/') =>
    runSync([handler], {
      cwd,
      env: { PATH: '/usr/bin:/bin', P2P_UPDATE_CONFIG: configFile, ...env },
    });
  return { stateDir, applyDir, run };
}

describe('the completion hook', () => {
  it('marks the info hash with an empty file, also a second time', () => {
    const { stateDir, applyDir, run } = makeNode();
    for (let time = 0; time < 2; time += 1) {
      const { status, stdout, stderr } = run({ TR_TORRENT_HASH: infoHash, TR_TORRENT_NAME: 'x' });
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
    }
    expect(readdirSync(join(applyDir, 'complete'))).toEqual([infoHash]);
    expect(readFileSync(join(applyDir, 'complete', infoHash), 'utf8')).toBe('');
    const log = readFileSync(join(stateDir, 'events.log'), 'utf8').trimEnd().split('\n');
    expect(log).toHaveLength(2);
    expect(JSON.parse(log[0] ?? '')).toMatchObject({
      handler: 'transmission-done',
      decision: 'complete',
      reason: infoHash,
    });
  });

  it.each([
    ['missing', undefined],
    ['empty', ''],
    ['upper case', infoHash.toUpperCase()],
    ['too short', infoHash.slice(1)],
    ['a path', `../../${infoHash.slice(6)}`],
    ['followed by a newline', `${infoHash}\n`],
    ['a command', '; rm -rf / #'],
  ])('refuses a hash that is %s, and leaves no mark', (_, hash) => {
    const { stateDir, applyDir, run } = makeNode();
    const before = readState(applyDir);
    const { status, stderr } = run(hash === undefined ? {} : { TR_TORRENT_HASH: hash });
    expect(status).toBe(64);
    expect(stderr).toMatch(/hint: .*script-torrent-done/);
    expect(readState(applyDir)).toEqual(before);
    expect(readState(stateDir)).toEqual({});
  });

  it('uses no other variable of its environment', () => {
    const { applyDir, run } = makeNode();
    const { status } = run({
      TR_TORRENT_HASH: infoHash,
      TR_TORRENT_NAME: '../../evil"; touch /tmp/evil; "',
      TR_TORRENT_DIR: '/etc',
      TR_TORRENT_ID: '-1',
    });
    expect(status).toBe(0);
    expect(Object.keys(readState(applyDir))).toEqual(['complete', `complete/${infoHash}`]);
    expect(existsSync('/tmp/evil')).toBe(false);
  });
});
