import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { hasEvent, type Submitted } from '../support/fleet/submit.ts';
import { repository } from '../support/run/repository.ts';
import { programArgv } from '../support/run/program.ts';
import { programsIn, type Seen, tracing } from './trace-programs.ts';

let fleet: Fleet;
let operator: FleetNode;
/** Not below the fleet's, whose files are searched. */
let traceDirectory: string;

beforeAll(async () => {
  traceDirectory = mkdtempSync(join(tmpdir(), 'p2p-traces-'));
  fleet = await startFleet({
    nodes: 2,
    daemonCommand: (command, name) => tracing(join(traceDirectory, name), command),
  });
  [operator] = fleet.nodes as [FleetNode];
});

afterAll(() => {
  fleet.stop();
  rmSync(traceDirectory, { recursive: true });
});

/** The files of a node that have secrets, and the secrets in them. */
function secretFiles({ directory, config }: FleetNode): { file: string; secrets: string[] }[] {
  const { credentialsFile } = config.transmission;
  const { rpcAuthFile } = config.serf;
  const read = (file: string): string => readFileSync(file, 'utf8');
  const json = (file: string): Record<string, string> =>
    JSON.parse(read(file)) as Record<string, string>;
  const login = json(credentialsFile ?? '');
  const pair = `${login['username'] ?? ''}:${login['password'] ?? ''}`;
  const agent = join(directory, 'serf', '20-secrets.json');
  const daemon = join(directory, 'transmission', 'settings.json');
  const etc = join(directory, 'etc');
  const keys = readdirSync(etc).filter((name) => name.endsWith('.pem'));
  return [
    {
      file: credentialsFile ?? '',
      secrets: [login['password'] ?? '', Buffer.from(pair).toString('base64')],
    },
    { file: rpcAuthFile ?? '', secrets: [read(rpcAuthFile ?? '').trim()] },
    { file: agent, secrets: Object.values(json(agent)) },
    { file: daemon, secrets: [login['password'] ?? ''] },
    ...keys.map((name) => ({
      file: join(etc, name),
      secrets: [read(join(etc, name)).split('\n')[1] ?? ''],
    })),
  ];
}

const filesBelow = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true, encoding: 'utf8' })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

it('keeps secrets in files that no other user can read, each of them long', () => {
  for (const { file, secrets } of fleet.nodes.flatMap(secretFiles)) {
    // Transmission 4 writes its file again by its umask, with a salted hash in place of the password.
    const own = /settings\.json$/.test(file) ? 0o040 : 0;
    expect({ file, mode: statSync(file).mode & 0o777 & ~own }).toEqual({ file, mode: 0o600 });
    for (const secret of secrets) expect(secret.length).toBeGreaterThanOrEqual(32);
  }
});

it('shows no secret in a process, a log, the state or the configuration, from submit to applied', async () => {
  const all = fleet.nodes.flatMap(secretFiles);
  const secrets = [...new Set(all.flatMap((each) => each.secrets))];
  expect(secrets.length).toBeGreaterThanOrEqual(6);
  const leaks = (text: string): boolean => secrets.some((secret) => text.includes(secret));

  const manifest = join(fleet.directory, 'secret.pp');
  writeFileSync(manifest, `notice('applied')\n`);
  // All that takes part was looked at: submit, Serf's command, the handlers, the reconciler, Puppet.
  const expected = [
    /^serf agent /,
    /^transmission-daemon /,
    /p2p-update\.cjs submit/,
    /^serf (-\S+ )*event /,
    /^serf members/,
    /handlers\/update\.cjs/,
    /handlers\/transmission-done\.cjs/,
    /p2p-update\.cjs reconcile/,
    /puppet.* apply/,
  ];
  const argv = [...programArgv('p2p-update.cjs submit'), manifest, '--json', '--channel', 'secret'];
  const { status, stdout } = await operator.run(tracing(join(traceDirectory, 'submit'), argv));
  expect(status).toBe(0);
  const update = JSON.parse(stdout) as Submitted;
  await fleet.waitFor('every node has applied it', () =>
    fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
  );
  const processes = filesBelow(traceDirectory).flatMap(programsIn);
  const missing = expected.filter(
    (pattern) => !processes.some(({ command }) => pattern.test(command)),
  );
  expect(missing).toEqual([]);
  expect(processes.filter(({ command }) => leaks(command))).toEqual([]);

  // Serf's command takes its key from a flag, which ps shows, or from its environment.
  const withSecret = processes.filter(({ environment }) => leaks(environment));
  const isSerfCommand = ({ command }: Seen): boolean => {
    const [program = '', first] = command.split(' ');
    return basename(program) === 'serf' && first !== 'agent';
  };
  expect(withSecret.filter((each) => !isSerfCommand(each))).toEqual([]);
  const rpcKey = readFileSync(operator.config.serf.rpcAuthFile ?? '', 'utf8').trim();
  expect(withSecret).not.toEqual([]);
  for (const { environment } of withSecret) {
    expect(environment).toContain(`SERF_RPC_AUTH=${rpcKey}`);
    expect(leaks(environment.replace(`SERF_RPC_AUTH=${rpcKey}`, ''))).toBe(false);
  }

  const known = new Set(all.map(({ file }) => file));
  const others = filesBelow(fleet.directory).filter((file) => !known.has(file));
  expect(others).toEqual(
    expect.arrayContaining(
      fleet.nodes.flatMap((node) => [
        node.configFile,
        node.serf.logFile,
        node.transmission.logFile,
        join(node.config.stateDir, 'events.log'),
        join(node.config.applyDir, 'events.log'),
      ]),
    ),
  );
  expect(others.filter((file) => leaks(readFileSync(file, 'latin1')))).toEqual([]);
});

it('has no private key in the repository', () => {
  const skipped = /^(node_modules|dist|\.git)$/;
  const files = readdirSync(repository)
    .filter((name) => !skipped.test(name))
    .map((name) => join(repository, name))
    .flatMap((path) => (statSync(path).isDirectory() ? filesBelow(path) : [path]));
  expect(files).toContain(join(repository, 'lib', 'trust', 'signing.ts'));
  const key = /-----BEGIN (\w+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{32,}/;
  expect(files.filter((file) => key.test(readFileSync(file, 'latin1')))).toEqual([]);
});
