import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeAnnouncement } from '../../lib/announcement/codec.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  writeKeySet,
  type TestKeys,
} from '../support/fleet/announce.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readState } from '../support/run/state.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { runSync } from '../support/run/command.ts';

const handler = join(import.meta.dirname, '../../dist/handlers/update.cjs');
const now = Math.floor(Date.now() / 1000);

interface Node {
  stateDir: string;
  env: Record<string, string>;
  keys: TestKeys;
}

/** A node's files, and the environment that Serf gives to a handler. */
function makeNode(config: object = {}, keys = makeKeys()): Node {
  const directory = temporaryDirectory();
  const stateDir = join(directory, 'state');
  const keySetFile = join(directory, 'keyset.txt');
  const configFile = join(directory, 'config.json');
  mkdirSync(stateDir);
  writeKeySet(keySetFile, keys);
  writeFileSync(configFile, JSON.stringify({ stateDir, keySetFile, ...config }));
  const env = serfEnvironment(configFile);
  return { stateDir, env, keys };
}

/** Runs the built handler as Serf does: payload and newline on stdin. */
function handle({ env }: Node, payload: string | Buffer) {
  const input = Buffer.concat([Buffer.from(payload), Buffer.from(payload.length > 0 ? '\n' : '')]);
  return runSync([handler], { env, input });
}

function lastEvent({ stateDir }: Node): Record<string, unknown> {
  const lines = readFileSync(join(stateDir, 'events.log'), 'utf8').trimEnd().split('\n');
  return JSON.parse(lines.at(-1) ?? '') as Record<string, unknown>;
}

function accepted({ stateDir }: Node): string[] {
  const directory = join(stateDir, 'announcements');
  return existsSync(directory) ? readdirSync(directory) : [];
}

beforeAll(() => {
  expect(existsSync(handler), 'npm run build makes the handlers').toBe(true);
});

describe('the update handler', () => {
  it('keeps a new announcement and logs it in events.log', () => {
    const node = makeNode();
    const version = now;
    const result = handle(node, signAnnouncement(makeAnnouncement({ version }), node.keys));
    expect(result).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(accepted(node)).toEqual([`default@${String(version).padStart(16, '0')}`]);
    expect(lastEvent(node)).toMatchObject({
      handler: 'update',
      decision: 'accept',
      channel: 'default',
      version,
      ms: expect.any(Number) as number,
    });
  });

  it('takes the same bytes again, changes nothing, and rings', () => {
    const node = makeNode();
    const payload = signAnnouncement(makeAnnouncement(), node.keys);
    handle(node, payload);
    const before = readState(node.stateDir);
    expect(handle(node, payload)).toMatchObject({ status: 0, stderr: '' });
    expect(readState(node.stateDir)).toEqual(before);
    expect(lastEvent(node)).toMatchObject({ decision: 'ring' });
  });

  it('ends at the newest announcement in every order of arrival', () => {
    const versions = [now, now + 1, now + 2];
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    for (const order of orders) {
      const node = makeNode();
      for (const index of order) {
        const version = versions[index] ?? 0;
        const mark = Math.max(0, ...accepted(node).map((name) => Number(name.split('@')[1])));
        const { status } = handle(node, signAnnouncement(makeAnnouncement({ version }), node.keys));
        expect(status).toBe(version > mark ? 0 : 76);
      }
      const newest = accepted(node).sort().at(-1);
      expect(newest).toBe(`default@${String(now + 2).padStart(16, '0')}`);
    }
  });

  it('keeps an announcement for each channel', () => {
    const node = makeNode();
    for (const channel of ['default', 'acme-hello'])
      handle(node, signAnnouncement(makeAnnouncement({ channel, version: now }), node.keys));
    expect(accepted(node)).toHaveLength(2);
  });

  it.each([2, 3])('accepts %i signatures where the key set asks for them', (signers) => {
    const node = makeNode({}, makeKeys('test-fleet', signers));
    const payload = signAnnouncement(makeAnnouncement({ pieces: new Uint8Array() }), node.keys);
    expect(decodeAnnouncement(payload).signers).toHaveLength(signers);
    expect(handle(node, payload).status).toBe(0);
  });

  it('stores one announcement when many handlers get it at once', async () => {
    const node = makeNode();
    const payload = signAnnouncement(makeAnnouncement(), node.keys);
    const runs = Array.from({ length: 12 }, async () => {
      const child = spawn(handler, { env: node.env, stdio: ['pipe', 'ignore', 'ignore'] });
      child.stdin.end(payload);
      const [status] = (await once(child, 'exit')) as [number | null];
      return status;
    });
    expect(await Promise.all(runs)).toEqual(Array(12).fill(0));
    expect(accepted(node)).toHaveLength(1);
  });
});

describe('the update handler refuses', () => {
  const later = { version: now + 10 };
  const strangers = makeKeys();
  const elsewhere = (keys: TestKeys): TestKeys => ({
    ...keys,
    keySet: { ...keys.keySet, fleet: 'another-fleet' },
  });

  it.each<[string, (keys: TestKeys) => string | Buffer, number, RegExp]>([
    ['an empty payload', () => '', 65, /cut off/],
    ['rubbish', () => 'hello, world', 65, /base64url/],
    ['ten megabytes', () => Buffer.alloc(10_000_000, 'A'), 65, /longer than 2048 bytes/],
    [
      'a truncated announcement',
      (keys) => {
        const bytes = Buffer.from(signAnnouncement(makeAnnouncement(later), keys), 'base64url');
        return bytes.subarray(0, -9).toString('base64url');
      },
      65,
      /cut off/,
    ],
    [
      'truncated base64',
      (keys) => signAnnouncement(makeAnnouncement(later), keys).slice(0, -3),
      65,
      /base64url|cut off/,
    ],
    [
      'padding',
      (keys) => `${signAnnouncement(makeAnnouncement(later), keys)}=`,
      65,
      /base64url without padding/,
    ],
    [
      'an unknown kind',
      (keys) => {
        const bytes = Buffer.from(signAnnouncement(makeAnnouncement(later), keys), 'base64url');
        bytes[1] = 9;
        return bytes.toString('base64url');
      },
      65,
      /newer software/,
    ],
    [
      'an unknown format',
      (keys) => {
        const bytes = Buffer.from(signAnnouncement(makeAnnouncement(later), keys), 'base64url');
        bytes[0] = 2;
        return bytes.toString('base64url');
      },
      65,
      /newer software/,
    ],
    [
      'the wrong keys',
      () => signAnnouncement(makeAnnouncement(later), strangers),
      77,
      /release key/,
    ],
    [
      'another fleet',
      (keys) => signAnnouncement(makeAnnouncement(later), elsewhere(keys)),
      77,
      /another fleet/,
    ],
    [
      'a changed field',
      (keys) => {
        const bytes = Buffer.from(signAnnouncement(makeAnnouncement(later), keys), 'base64url');
        bytes[60] = (bytes[60] ?? 0) ^ 1;
        return bytes.toString('base64url');
      },
      77,
      /does not verify/,
    ],
    [
      'a later key set',
      (keys) => signAnnouncement(makeAnnouncement({ ...later, epoch: 2 }), keys),
      75,
      /key set 2/,
    ],
    [
      'an expired one',
      (keys) =>
        signAnnouncement(
          makeAnnouncement({ ...later, created: now - 90, expires: now - 10 }),
          keys,
        ),
      76,
      /expired/,
    ],
    [
      'one from the future',
      (keys) =>
        signAnnouncement(
          makeAnnouncement({ ...later, created: now + 5000, expires: now + 9000 }),
          keys,
        ),
      76,
      /in the future/,
    ],
    [
      'an older version',
      (keys) => signAnnouncement(makeAnnouncement({ version: now - 5 }), keys),
      76,
      /older than/,
    ],
    [
      'a version that would use up all others',
      (keys) => signAnnouncement(makeAnnouncement({ version: 2 ** 53 - 1 }), keys),
      76,
      /above/,
    ],
    [
      'a bare torrent',
      () =>
        'd4:infod6:lengthi5e4:name4:a.pp12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee',
      65,
      /creation date/,
    ],
  ])('%s, changes nothing, and then takes a good one', (_, payload, status, message) => {
    const node = makeNode();
    handle(node, signAnnouncement(makeAnnouncement({ version: now }), node.keys));
    const before = readState(node.stateDir);
    const result = handle(node, payload(node.keys));
    expect(result).toMatchObject({ status, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toMatch(/^update: error: .+\nupdate: hint: .+\n$/s);
    expect(readState(node.stateDir)).toEqual(before);
    expect(lastEvent(node)).toMatchObject({ decision: status === 75 ? 'wait' : 'refuse' });
    const good = signAnnouncement(makeAnnouncement({ version: now + 20 }), node.keys);
    expect(handle(node, good).status).toBe(0);
  });

  it('every payload without a configuration, and names the file', () => {
    const node = makeNode();
    const env = { ...node.env, P2P_UPDATE_CONFIG: '/nowhere/config.json' };
    const result = handle({ ...node, env }, 'x');
    expect(result.status).toBe(78);
    expect(result.stderr).toMatch(/no configuration file \/nowhere\/config.json/);
  });

  it('every payload under a configuration with an unknown key, and names the key', () => {
    const result = handle(makeNode({ sateDir: '/x' }), 'x');
    expect(result.status).toBe(78);
    expect(result.stderr).toMatch(/unknown key "sateDir"/);
  });

  it('every payload without a key set', () => {
    const node = makeNode({ keySetFile: '/nowhere/keyset.txt' });
    const result = handle(node, signAnnouncement(makeAnnouncement(), node.keys));
    expect(result.status).toBe(78);
    expect(result.stderr).toMatch(/keygen/);
  });

  it('to run when Serf did not start it', () => {
    const node = makeNode();
    const result = handle({ ...node, env: { ...node.env, SERF_EVENT: '' } }, 'x');
    expect(result.status).toBe(64);
  });

  it('another event than update', () => {
    const node = makeNode();
    const env = { ...node.env, SERF_USER_EVENT: 'deploy' };
    const result = handle({ ...node, env }, signAnnouncement(makeAnnouncement(), node.keys));
    expect(result.status).toBe(64);
    expect(accepted(node)).toEqual([]);
  });
});
