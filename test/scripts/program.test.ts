import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { shellCommand } from '../../lib/command-hint.ts';
import { commandLine, UnknownWordError } from '../../scripts/cli/command-line.ts';
import { nearest } from '../../scripts/cli/nearest.ts';
import { commands } from '../../scripts/cli/program.ts';
import { parseCommand as parseKeys } from '../../scripts/keys/arguments.ts';
import { parseCommand as parseSubmit } from '../../scripts/submit/arguments.ts';
import { makeKeyFiles, makeOperator, type Operator } from '../support/fleet/operator.ts';
import { programArgv } from '../support/run/program.ts';
import { refusal } from '../support/run/refusal.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';

const names = commands.map(({ name }) => name);
const [node = '', program = ''] = programArgv('p2p-update.cjs');
const p2pUpdate = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(node, [program, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
};

describe('p2p-update', () => {
  it('has every command', () => {
    expect([...names].sort()).toEqual([
      ...[
        'apply',
        'doctor',
        'help',
        'invite',
        'keygen',
        'keys',
        'log',
        'reconcile',
        'renew',
        'retire',
        'retry',
      ],
      ...['setup', 'status', 'submit', 'version', 'withdraw'],
    ]);
  });

  it.each([['--help'], ['-h'], ['help']])(
    'lists every command with its summary for %s',
    (argument) => {
      const { status, stdout, stderr } = p2pUpdate(argument);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toMatch(/^Usage: p2p-update COMMAND/);
      for (const { name, summary } of commands)
        expect(stdout).toContain(`  ${name.padEnd(11)}${summary}\n`);
    },
  );

  it('shows the usage as an error without arguments', () => {
    const { status, stdout, stderr } = p2pUpdate();
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toBe(p2pUpdate('help').stdout);
  });

  it.each(names.filter((name) => name !== 'help'))(
    'prints the same for help %s as for --help',
    (name) => {
      const help = p2pUpdate('help', name);
      expect(help).toMatchObject({ status: 0, stderr: '' });
      expect(help.stdout).toMatch(new RegExp(`^Usage: p2p-update ${name}\\b`));
      for (const option of ['--help', '-h']) expect(p2pUpdate(name, option)).toEqual(help);
    },
  );

  it.each([['--version'], ['version']])('prints the version of package.json for %s', (argument) => {
    const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(p2pUpdate(argument)).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  it.each<[string, string[], string]>([
    [
      'a mistyped command',
      ['sumbit'],
      'p2p-update: error: there is no command sumbit; submit is the nearest',
    ],
    [
      'the beginning of a command',
      ['stat'],
      'p2p-update: error: there is no command stat; status is the nearest',
    ],
    ['a strange command', ['frobnicate'], 'p2p-update: error: there is no command frobnicate'],
    [
      'a mistyped help',
      ['help', 'kyes'],
      'p2p-update: error: there is no command kyes; keys is the nearest',
    ],
    [
      'a mistyped option',
      ['--verison'],
      'p2p-update: error: there is no option --verison; --version is the nearest',
    ],
    [
      'a mistyped option of a command',
      ['submit', '--chanel', 'x'],
      'submit: error: there is no option --chanel; --channel is the nearest',
    ],
    [
      'a mistyped command of keys',
      ['keys', 'countersing'],
      'keys: error: there is no command countersing; countersign is the nearest',
    ],
    [
      'a property of every object',
      ['submit', '--constructor'],
      'submit: error: there is no option --constructor',
    ],
    ['a control character', ['\u009b2J'], 'p2p-update: error: there is no command "\\u009b2J"'],
  ])('refuses %s, and names the nearest word and the help', (_, args, line) => {
    const { status, stdout, stderr } = p2pUpdate(...args);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    const [error, hint, ...more] = stderr.split('\n');
    expect(error).toBe(line);
    const named = hint?.replace(`: ${shellCommand(program)} `, ': p2p-update ');
    expect(named).toMatch(/^[\w-]+: hint: p2p-update (help|[a-z]+ --help)$/);
    expect(more).toEqual(['']);
  });

  it('ends without an error when the reader of its output has gone', async () => {
    const child = spawn('sh', ['-c', '"$@" | true', 'sh', node, program, 'help']);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    await once(child, 'close');
    expect(stderr).toBe('');
  });
});

describe('a command line', () => {
  const { parse } = commandLine('submit');
  const read = (...args: string[]) =>
    parse({ args, options: { name: { type: 'string' }, json: { type: 'boolean' } } }).values;

  it.each<[string[], string]>([
    [['--name'], '--name needs a value'],
    [
      ['--name', '--json'],
      '--name needs a value, and --json looks like an option; if it is meant: --name=…',
    ],
    [['--json=yes'], '--json takes no value, not yes'],
    [['more'], 'more has no meaning here'],
    [['two words'], '"two words" has no meaning here'],
    [['-x'], 'there is no option -x'],
  ])('refuses %j', (args, message) => {
    expect(refusal(() => read(...args))).toMatchObject({ code: 'usage', message });
  });

  it('takes well-formed arguments', () => {
    expect(read('--name=--json', '--json')).toEqual({ name: '--json', json: true });
    expect(read('--name', 'a', '--name', '-')).toEqual({ name: '-' });
  });

  it.each([
    ['submit', () => parseSubmit(['--wiat', 'a'], 0), '--wait'],
    ['keys', () => parseKeys(['lst']), 'list'],
  ])('of %s finds the word nearest to a mistyped one', (_, parseIt, wanted) => {
    const error = refusal(parseIt);
    if (!(error instanceof UnknownWordError)) throw error;
    expect(nearest(error.word, error.known)).toBe(wanted);
  });

  it.each([
    ['lgo', 'log'],
    ['re', undefined],
    ['rec', 'reconcile'],
    ['x', undefined],
    ['status', 'status'],
    ['wholly-other', undefined],
  ])('finds for %s the nearest command %s', (word, found) => {
    expect(nearest(word, names)).toBe(found);
  });
});

describe('from a checkout, by tsx without its cache,', () => {
  const tsx = (script: string, args: string[], operator?: Operator) =>
    spawnSync(node, ['--import', 'tsx', join('scripts', script), ...args], {
      cwd: repository,
      env: { PATH: process.env['PATH'], TSX_DISABLE_CACHE: '1', ...operator?.env },
      encoding: 'utf8',
    });

  it.each([
    ...['submit', 'keys', 'keygen', 'status', 'setup', 'invite', 'reconcile', 'retire', 'apply'],
  ])(
    'scripts/%s.ts runs that command',
    (name) => {
      const { status, stdout, stderr } = tsx(`${name}.ts`, ['--help']);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toBe(p2pUpdate(name, '--help').stdout);
    },
    60_000,
  );

  it('submit --dry-run shows the announcement, and changes nothing', () => {
    const operator = makeOperator();
    const file = operator.file('a.bin', 'x');
    const before = readTree(operator.directory);
    const { status, stdout, stderr } = tsx('submit.ts', ['--dry-run', '--json', file], operator);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ name: 'a.bin', sent: false });
    expect(readTree(operator.directory)).toEqual(before);
  }, 60_000);
});

/** The command to paste, with which a hint ends. */
const commandOf = (stderr: string): string => /hint: (?:.*: )?(\S+ .*)\n$/.exec(stderr)?.[1] ?? '';

describe('a hint', () => {
  /** An operator whose PATH has `linked` as p2p-update, if it is given, and who runs `file`. */
  const start = (linked?: string, file = program) => {
    const operator = makeOperator();
    const bin = join(temporaryDirectory(), 'bin');
    mkdirSync(bin);
    if (linked !== undefined) symlinkSync(linked, join(bin, 'p2p-update'));
    const env = { PATH: `${bin}:${process.env['PATH'] ?? ''}`, ...operator.env };
    const how = { env, cwd: operator.directory, encoding: 'utf8' } as const;
    return {
      operator,
      run: (...args: string[]) => spawnSync(node, [file, ...args], how),
      paste: (line: string) => spawnSync('sh', ['-c', line], how),
    };
  };

  it.each([
    ['by its path', undefined, program],
    ['by its name where PATH leads to it', program, 'p2p-update'],
    ['by its path where PATH leads to another', '/bin/false', program],
  ])('names the program %s, and works when it is pasted', (_, linked, name) => {
    const { operator, run, paste } = start(linked);
    operator.file('it is.pp', '');
    const down = run('submit', '--withdraw', 'web');
    expect(down.status).toBe(69);
    const command = commandOf(down.stderr);
    expect(command.startsWith(`${shellCommand(name)} submit --resend web@`), command).toBe(true);
    operator.setMembers([]);
    expect(paste(command)).toMatchObject({ status: 0, stderr: '' });
    expect(operator.sent()).toHaveLength(1);
  });

  it('names a program whose path a shell would split', () => {
    const elsewhere = join(temporaryDirectory(), "it's here");
    cpSync(dirname(program), elsewhere, { recursive: true });
    const file = join(elsewhere, 'p2p-update.cjs');
    const { operator, run, paste } = start(undefined, file);
    const command = commandOf(run('submit', '--withdraw', 'web').stderr);
    expect(command.startsWith(`'${file.replace("'", `'\\''`)}' submit --resend web@`)).toBe(true);
    operator.setMembers([]);
    expect(paste(command)).toMatchObject({ status: 0, stderr: '' });
    expect(operator.sent()).toHaveLength(1);
  });

  it.each<[string, string[]]>([
    ['an unknown option', ['submit', '--nmae', 'x']],
    ['a missing value', ['keygen', '--fleet']],
    ['an unknown command', ['nothing']],
    ['the flag that became a command', ['status', '--log', 'web']],
    ['a malformed update', ['log', 'a b']],
  ])('can be pasted when it is about %s', (_, args) => {
    const { run, paste } = start();
    const { status, stderr } = run(...args);
    expect(status).not.toBe(0);
    const command = commandOf(stderr);
    expect(command.startsWith(`${shellCommand(program)} `), stderr).toBe(true);
    const pasted = paste(command);
    expect({ command, stderr: pasted.stderr }).toMatchObject({
      stderr: expect.not.stringMatching(/error: there is no|not found|No such file/) as string,
    });
    expect([0, 69], command).toContain(pasted.status);
  });

  it('quotes characters that a shell would interpret', () => {
    const { operator, run, paste } = start();
    const directory = join(operator.directory, "it's; here");
    mkdirSync(directory);
    const proposal = join(directory, 'next.json');
    const { pub } = makeKeyFiles(operator.directory, 'fresh');
    const root = operator.roots[0]?.key ?? '';
    const { status, stdout } = run('keys', 'add', pub, '--root-key', root, '--out', proposal);
    expect(status).toBe(0);
    const command = /^next +on a node that submits: (.*)$/m.exec(stdout)?.[1] ?? '';
    expect(paste(`${command} --dry-run`)).toMatchObject({ status: 0, stderr: '' });
    expect(dirname(proposal)).toBe(directory);
    writeFileSync(proposal, 'no proposal');
    expect(paste(command).status).not.toBe(0);
  });
});
