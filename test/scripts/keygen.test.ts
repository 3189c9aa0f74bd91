import { execFile } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { publicKeyFromPem, publicKeyOf } from '../../lib/trust/ed25519.ts';
import { parseKeySet } from '../../lib/trust/key-set.ts';
import { parseRequest } from '../../scripts/keygen/arguments.ts';
import { programArgv } from '../support/run/program.ts';
import { refusal } from '../support/run/refusal.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';

const program = programArgv('p2p-update.cjs keygen');

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function keygen(args: string[], prefix: string[] = []): Promise<Outcome> {
  const [file = '', ...first] = [...prefix, ...program];
  return new Promise((resolve) => {
    const child = execFile(file, [...first, ...args], (_, stdout, stderr) => {
      resolve({ status: child.exitCode, stdout, stderr });
    });
  });
}

function mode(file: string): string {
  return (statSync(file).mode & 0o7777).toString(8);
}

describe('keygen', () => {
  it('makes the keys and the first key set of a fleet', async () => {
    const out = join(temporaryDirectory(), 'keys');
    const { status, stdout, stderr } = await keygen(['--fleet', 'example', '--out', out]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(readdirSync(out).sort()).toEqual([
      'keyset.txt',
      'release.key',
      'release.pub',
      'root.key',
      'root.pub',
    ]);
    expect([out, join(out, 'root.key'), join(out, 'release.key')].map(mode)).toEqual([
      '700',
      '600',
      '600',
    ]);
    const keySet = parseKeySet(readFileSync(join(out, 'keyset.txt'), 'utf8'));
    const keyOf = (name: string) => publicKeyFromPem(readFileSync(join(out, name), 'utf8'));
    expect(keySet).toEqual({
      fleet: 'example',
      epoch: 1,
      rootThreshold: 1,
      rootKeys: [keyOf('root.pub')],
      releaseThreshold: 1,
      releaseKeys: [{ key: keyOf('release.pub'), channels: null }],
    });
    for (const name of ['root', 'release']) {
      const key = createPrivateKey(readFileSync(join(out, `${name}.key`)));
      expect(publicKeyOf(createPublicKey(key))).toEqual(keyOf(`${name}.pub`));
    }
    expect(stdout).toContain(`release key ${keyOf('release.pub').id}`);
    expect(stdout).toMatch(/Copy keyset.txt to every node.*"keySetFile"/);
    expect(stdout).toMatch(/off line/);
    expect(stdout).not.toMatch(/PRIVATE/);
  });

  it('makes several release keys, with a threshold, and reports in JSON', async () => {
    const out = temporaryDirectory();
    const args = ['--fleet', 'example', '--out', out, '--signers', '3', '--threshold', '2'];
    const { status, stdout } = await keygen([...args, '--json']);
    expect(status).toBe(0);
    const facts = JSON.parse(stdout) as {
      keySetFile: string;
      root: { id: string };
      release: { id: string; keyFile: string }[];
    };
    const keySet = parseKeySet(readFileSync(facts.keySetFile, 'utf8'));
    expect(keySet.releaseThreshold).toBe(2);
    expect(facts).toEqual({
      fleet: 'example',
      epoch: 1,
      threshold: 2,
      rootThreshold: 1,
      keySetFile: join(out, 'keyset.txt'),
      root: { id: keySet.rootKeys[0]?.id, keyFile: join(out, 'root.key') },
      roots: [{ id: keySet.rootKeys[0]?.id, keyFile: join(out, 'root.key') }],
      release: [1, 2, 3].map((n) => {
        const pem = readFileSync(join(out, `release-${n}.pub`), 'utf8');
        return { id: publicKeyFromPem(pem).id, keyFile: join(out, `release-${n}.key`) };
      }),
    });
    expect(keySet.releaseKeys.map(({ key }) => key.id)).toEqual(
      facts.release.map(({ id }) => id).sort(),
    );
  });

  it('makes several root keys, with a threshold of their own', async () => {
    const out = temporaryDirectory();
    const args = ['--fleet', 'example', '--out', out, '--roots', '3', '--root-threshold', '2'];
    const { status, stdout } = await keygen(args);
    expect(status).toBe(0);
    const names = [1, 2, 3].flatMap((n) => [`root-${n}.key`, `root-${n}.pub`]);
    expect(readdirSync(out).sort()).toEqual(['keyset.txt', 'release.key', 'release.pub', ...names]);
    const keySet = parseKeySet(readFileSync(join(out, 'keyset.txt'), 'utf8'));
    expect(keySet).toMatchObject({ rootThreshold: 2, releaseThreshold: 1 });
    const ids = [1, 2, 3].map((n) => {
      expect(mode(join(out, `root-${n}.key`))).toBe('600');
      return publicKeyFromPem(readFileSync(join(out, `root-${n}.pub`), 'utf8')).id;
    });
    expect(keySet.rootKeys.map(({ id }) => id)).toEqual(ids.sort());
    for (const id of ids) expect(stdout).toContain(`root key ${id}: `);
    expect(stdout).toMatch(/Give each root key to its holder/);
  });

  it.each(['root.key', 'release.pub', 'keyset.txt'])(
    'refuses to overwrite %s, and leaves no other file',
    async (name) => {
      const out = temporaryDirectory();
      writeFileSync(join(out, name), 'ours');
      const before = readTree(out);
      const { status, stdout, stderr } = await keygen(['--fleet', 'example', '--out', out]);
      expect({ status, stdout }).toEqual({ status: 76, stdout: '' });
      expect(stderr).toMatch(/^keygen: error: .*already.*\nkeygen: hint: /);
      expect(readTree(out)).toEqual(before);
    },
  );

  it('follows no link in place of a file', async () => {
    const out = temporaryDirectory();
    const elsewhere = join(temporaryDirectory(), 'stolen');
    symlinkSync(elsewhere, join(out, 'release.key'));
    const { status } = await keygen(['--fleet', 'example', '--out', out]);
    expect(status).toBe(76);
    expect(readdirSync(out)).toEqual(['release.key']);
    expect(statSync(elsewhere, { throwIfNoEntry: false })).toBeUndefined();
  });

  it('leaves nothing behind when the disk fails half-way', async () => {
    const top = temporaryDirectory();
    // The key files have at most 119 bytes, the key set more.
    const { status, stderr } = await keygen(
      ['--fleet', 'example', '--out', join(top, 'keys')],
      ['prlimit', '--fsize=200', '--'],
    );
    expect(status).toBe(75);
    expect(stderr).toMatch(/^keygen: error: .*EFBIG.*\nkeygen: hint: /);
    expect(readdirSync(top)).toEqual([]);
  });

  const used = ['--fleet', 'example', '--out', '/nonexistent/never/made'];
  it.each<[string, string[], RegExp]>([
    ['no fleet', ['--out', '/nonexistent'], /--fleet needs/],
    ['a fleet with a space', ['--fleet', 'a b', '--out', '/nonexistent'], /--fleet needs/],
    ['no directory', ['--fleet', 'example'], /--out needs/],
    ['four signers', [...used, '--signers', '4'], /--signers must be 1 to 3/],
    ['a threshold above the signers', [...used, '--threshold', '2'], /--threshold must be 1 to 1/],
    ['four root keys', [...used, '--roots', '4'], /--roots must be 1 to 3/],
    [
      'a root threshold above the root keys',
      [...used, '--roots', '2', '--root-threshold', '3'],
      /--root-threshold must be 1 to 2/,
    ],
    ['an unknown option', [...used, '--force'], /--force/],
    ['an argument too many', [...used, 'more'], /more/],
  ])('refuses %s', (_, args, message) => {
    const error = refusal(() => parseRequest(args));
    expect(error).toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message) as string,
    });
    expect(error.hint).toMatch(/keygen --help$/);
  });

  it.each<[string, string[], RegExp]>([
    ['arguments', [...used, '--force'], /--force/],
    ['a directory in a missing one', used, /cannot write to \/nonexistent\/never\/made/],
  ])('refuses %s in two lines, and ends with 64', async (_, args, message) => {
    const { status, stdout, stderr } = await keygen(args);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^keygen: hint: /m);
  });

  it('shows its help', async () => {
    const { status, stdout, stderr } = await keygen(['--help']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: p2p-update keygen --fleet NAME --out DIRECTORY/);
  });
});
