import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isContentName } from '../../lib/announcement/fields.ts';
import { UpdateError } from '../../lib/errors.ts';
import { prepareSubmission } from '../../lib/submit/submission.ts';
import { parsePayload } from '../../lib/announcement/update.ts';
import { makeKeys, writeKeySet } from '../support/fleet/announce.ts';
import { makeApplySide, stagedIn, type ApplySide } from '../support/fleet/apply-side.ts';
import { fileNames, hostileNames, texts } from './hostile-names.ts';
import { signWith } from './sign-hostile.ts';
import { readState } from '../support/run/state.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { runSync } from '../support/run/command.ts';

// Hostile names: refused by the parser and by submit; only canonical names reach the disk, and none a shell.

const repository = join(import.meta.dirname, '../..');
/** Characters that control a terminal or reorder its text. */
const forTerminals = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

test('the list of hostile names has at least 40', () => {
  expect(hostileNames.length).toBeGreaterThanOrEqual(40);
  expect(fileNames.length).toBeGreaterThanOrEqual(40);
});

async function refusalOf(action: Promise<unknown>): Promise<UpdateError> {
  const error: unknown = await action.then(
    () => new Error('nothing was refused'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof UpdateError)) throw error;
  return error;
}

describe('in a signed announcement', () => {
  const keys = makeKeys();

  test.each(hostileNames)('the parser refuses %s, as name and as channel', async (_, name) => {
    for (const field of ['name', 'channel'] as const) {
      const payload = Buffer.from(signWith(field, Buffer.from(name), keys));
      const error = await refusalOf(parsePayload(payload));
      expect(error.code).toBe('malformed');
      expect(`${error.message}${error.hint}`).not.toMatch(forTerminals);
      expect(error.hint).not.toBe('');
    }
    // The very same bytes with a canonical name pass.
    await parsePayload(Buffer.from(signWith('name', Buffer.from('site.pp'), keys)));
  });

  const some = hostileNames.filter((_, index) => index % 8 === 0);
  test.each(some)('the handler refuses %s, and keeps nothing', (_, name) => {
    const directory = temporaryDirectory();
    const stateDir = join(directory, 'state');
    const keySetFile = join(directory, 'keyset.txt');
    mkdirSync(stateDir);
    writeKeySet(keySetFile, keys);
    const configFile = join(directory, 'config.json');
    const applyDir = join(directory, 'apply');
    writeFileSync(configFile, JSON.stringify({ stateDir, applyDir, keySetFile }));
    const before = readState(directory);
    const { status, stdout, stderr } = runSync([join(repository, 'dist/handlers/update.cjs')], {
      input: `${signWith('name', Buffer.from(name), keys)}\n`,
      cwd: directory,
      env: serfEnvironment(configFile),
    });
    expect({ status, stdout }).toEqual({ status: 65, stdout: '' });
    expect(stderr).toMatch(/^update: error: [^\n]+\nupdate: hint: [^\n]+\n$/);
    const log = readFileSync(join(stateDir, 'events.log'), 'utf8');
    expect(log.trimEnd().split('\n')).toHaveLength(1);
    expect(log + stderr).not.toMatch(forTerminals);
    const after = readState(directory);
    delete after['state/events.log'];
    expect(after).toEqual(before);
  });
});

/** The configuration of an operator's node, with keys to sign with. */
function makeOperator(directory: string): ApplySide['config'] {
  const { config } = makeApplySide(join(directory, 'node'));
  const keys = makeKeys();
  writeKeySet(config.keySetFile, keys);
  const signingKey = join(directory, 'release.pem');
  const [key] = keys.releaseKeys;
  const pem = key?.export({ type: 'pkcs8', format: 'pem' }) ?? '';
  writeFileSync(signingKey, pem, { mode: 0o600 });
  return { ...config, signingKeyFiles: [signingKey] };
}

const now = Math.floor(Date.now() / 1000);

describe('submit refuses hostile names before it signs', () => {
  /** Prepares a submission of a file of this name, and of others under this name. */
  function makeSubmit(): (file: string, name?: string) => ReturnType<typeof prepareSubmission> {
    const directory = temporaryDirectory();
    const config = makeOperator(directory);
    let count = 0;
    mkdirSync(join(directory, 'files'));
    return (fileName, name) => {
      count += 1;
      const workDir = join(directory, `work-${count}`);
      mkdirSync(workDir);
      const file = join(directory, 'files', fileName);
      writeFileSync(file, 'content');
      // One of them may as well be a manifest: that is another question.
      const kind = 'file' as const;
      const rest = {
        kind,
        notBefore: 0,
        expires: now + 3600,
        rerun: false,
        noop: false,
        target: '',
      };
      const fleet = {
        ask: () => Promise.resolve(new Map<string, number>()),
        clockOffsets: () => Promise.resolve([]),
        isClockTrusted: false,
        warn: () => undefined,
      };
      return prepareSubmission({ file, name, ...rest }, config, workDir, now, fleet);
    };
  }

  test('as the name of a file, and suggests one that works', async () => {
    const submit = makeSubmit();
    for (const [what, name] of fileNames) {
      const error = await refusalOf(submit(name));
      expect(error.code, what).toBe('usage');
      expect(error.message, what).toContain('the file is named');
      const suggested = / submit --name (\S+) /.exec(error.hint)?.[1] ?? '';
      expect(isContentName(suggested), `${what}: ${error.hint}`).toBe(true);
      expect((await submit(name, suggested)).announcement.name).toBe(suggested);
    }
  });

  test('as --name', async () => {
    const submit = makeSubmit();
    for (const [what, name] of texts) {
      const error = await refusalOf(submit('fine.bin', name));
      expect(error.code, what).toBe('usage');
      expect(error.hint, what).toMatch(/ submit --name [A-Za-z0-9][A-Za-z0-9._+-]{0,63} /);
    }
  });

  test('with a message that cannot control a terminal', async () => {
    const submit = makeSubmit();
    for (const [what, name] of texts) {
      const { message, hint } = await refusalOf(submit('fine.bin', name));
      expect(`${message}${hint}`, what).not.toMatch(forTerminals);
    }
  });
});

test('the command itself refuses hostile names on every way in, and starts no shell', async () => {
  const directory = temporaryDirectory();
  const config = makeOperator(directory);
  const configFile = join(directory, 'config.json');
  writeFileSync(configFile, JSON.stringify(config));
  const cwd = join(directory, 'cwd');
  mkdirSync(cwd);
  const before = readTree(config.publishDir);
  const run = async (...args: string[]): Promise<void> => {
    const child = spawn(join(repository, 'dist/p2p-update.cjs'), ['submit', ...args], {
      cwd,
      env: { PATH: '/usr/bin:/bin', P2P_UPDATE_CONFIG: configFile },
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const [status] = (await once(child, 'close')) as [number | null];
    expect(status, stderr).toBe(64);
    expect(stderr).toMatch(/^submit: error: [^\n]+\nsubmit: hint: [^\n]+\n$/);
  };
  const names = [
    '$(touch pwned)',
    '`touch pwned`',
    ';touch pwned',
    'a&touch pwned',
    '--help\n',
    '-rf',
  ];
  for (const name of names) writeFileSync(join(cwd, name), 'content');
  for (const name of names) await Promise.all([run(`./${name}`), run('./-rf', `--name=${name}`)]);
  await Promise.all([run('-rf'), run('--', 'none;touch pwned')]);
  expect(readdirSync(cwd).sort()).toEqual([...names].sort());
  expect(readTree(config.publishDir)).toEqual(before);
});

test('hostile names in the directories of the state are ignored', async () => {
  const directory = temporaryDirectory();
  const node = makeApplySide(directory);
  await node.apply();
  const { stateDir, applyDir, downloadDir } = node.config;
  mkdirSync(join(stateDir, 'announcements'), { recursive: true });
  for (const [, name] of fileNames)
    for (const place of [
      join(stateDir, 'announcements'),
      join(applyDir, 'complete'),
      join(applyDir, 'outcomes'),
      downloadDir,
    ])
      writeFileSync(join(place, name), 'content');
  const elsewhere = (): string[] =>
    (readdirSync(directory, { recursive: true }) as string[])
      .filter((path) => !path.startsWith('apply/complete/'))
      .sort();
  const before = elsewhere();
  expect(await node.apply()).toEqual([]);
  expect(elsewhere()).toEqual(before);
  expect(stagedIn(node)).toEqual([]);
  expect(existsSync(join(directory, 'etc/puppet-ran'))).toBe(false);
});

test('passes every path to the real Puppet as one argument', async () => {
  // An operator may have such a directory, and must not have to quote it.
  const directory = join(
    temporaryDirectory(),
    `a'b"c;touch pwned;$(touch pwned)\`touch pwned\`&|<>#~!%s\\`,
  );
  const { puppet } = makeApplySide(directory).config;
  const node = makeApplySide(directory, { puppet: { ...puppet, command: 'puppet' } });
  writeFileSync(
    join(puppet.confDir, 'puppet.conf'),
    '[main]\nmanage_internal_file_permissions = false\n',
  );
  const made = join(directory, '..', 'made');
  const update = node.receive(
    { name: '0--noop+.pp' },
    Buffer.from(`file { '${made}': content => "\${facts['p2p_update_channel']}" }`),
  );
  await node.apply();
  expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED', run: { changed: 1 } });
  expect(readFileSync(made, 'utf8')).toBe('default');
  for (const place of ['/', process.cwd(), directory, join(directory, '..')])
    expect(existsSync(join(place, 'pwned')), place).toBe(false);
});

test('passes no text to a shell in any code of ours', () => {
  const sources = ['lib', 'handlers', 'scripts'].flatMap((top) =>
    (readdirSync(join(repository, top), { recursive: true }) as string[])
      .filter((path) => path.endsWith('.ts'))
      .map((path) => join(repository, top, path)),
  );
  expect(sources.length).toBeGreaterThan(50);
  for (const source of sources) {
    const text = readFileSync(source, 'utf8');
    expect(text, source).not.toMatch(/(?<![.\w])exec(Sync)?\(|\bshell: *(true|['"`/])/);
  }
});
