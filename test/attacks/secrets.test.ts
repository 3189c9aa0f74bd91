import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { hasEvent, submit } from '../support/fleet/submit.ts';
import { repository } from '../support/run/repository.ts';

let fleet: Fleet;
let operator: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [operator] = fleet.nodes as [FleetNode];
});

afterAll(() => {
  fleet.stop();
});

/** The files of a node that have secrets, and what is secret in them. */
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

/** A process, as anybody who may look at it sees it. */
interface Seen {
  command: string;
  environment: string;
}

/** Looks at every process of the machine, again and again, until it is told to stop. */
function watchProcesses(): { stop: () => Promise<Seen[]> } {
  const seen = new Map<string, Seen>();
  const read = (pid: string, file: string): string =>
    readFileSync(`/proc/${pid}/${file}`, 'latin1').replaceAll('\0', ' ');
  const look = (): void => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        // In this order: what has an environment now may run another program later, not before.
        const environment = read(pid, 'environ');
        const command = read(pid, 'cmdline');
        if (command !== '') seen.set(`${command}\n${environment}`, { command, environment });
      } catch {
        // It has ended meanwhile.
      }
    }
  };
  const over = new AbortController();
  const watching = (async () => {
    while (!over.signal.aborted) {
      look();
      // Some live for 20 ms only.
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  return {
    stop: async () => {
      over.abort();
      await watching;
      return [...seen.values()];
    },
  };
}

it('secrets are in files of mode 0600, and each is long', () => {
  for (const { file, secrets } of fleet.nodes.flatMap(secretFiles)) {
    expect({ file, mode: statSync(file).mode & 0o777 }).toEqual({ file, mode: 0o600 });
    for (const secret of secrets) expect(secret.length).toBeGreaterThanOrEqual(32);
  }
});

it('no secret shows in a process, a log, the state or the configuration, from submit to applied', async () => {
  const all = fleet.nodes.flatMap(secretFiles);
  const secrets = [...new Set(all.flatMap((each) => each.secrets))];
  expect(secrets.length).toBeGreaterThanOrEqual(6);
  const leaks = (text: string): boolean => secrets.some((secret) => text.includes(secret));

  const manifest = join(fleet.directory, 'secret.pp');
  writeFileSync(manifest, `notice('applied')\n`);
  // All that takes part was looked at: submit, Serf's command, the handlers, the reconciler, Puppet.
  const expected = [
    /p2p-update\.cjs submit/,
    /^serf (-\S+ )*event /,
    /^serf members/,
    /handlers\/update\.cjs/,
    /handlers\/transmission-done\.cjs/,
    /p2p-update\.cjs reconcile/,
    /puppet.* apply/,
  ];
  const processes: Awaited<ReturnType<ReturnType<typeof watchProcesses>['stop']>> = [];
  const missing = (): RegExp[] =>
    expected.filter((pattern) => !processes.some(({ command }) => pattern.test(command)));
  // What lives for some 20 ms may be missed once.
  for (let round = 0; round === 0 || (round < 4 && missing().length > 0); round += 1) {
    const watch = watchProcesses();
    const update = await submit(operator, manifest, '--channel', 'secret', '--rerun');
    await fleet.waitFor(
      'every node has applied it',
      () => fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
      60_000,
    );
    processes.push(...(await watch.stop()));
  }
  expect(missing()).toEqual([]);
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

it('no private key is in the repository', () => {
  const skipped = /^(node_modules|dist|\.git)$/;
  const files = readdirSync(repository)
    .filter((name) => !skipped.test(name))
    .map((name) => join(repository, name))
    .flatMap((path) => (statSync(path).isDirectory() ? filesBelow(path) : [path]));
  expect(files).toContain(join(repository, 'lib', 'trust', 'signing.ts'));
  const key = /-----BEGIN (\w+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{32,}/;
  expect(files.filter((file) => key.test(readFileSync(file, 'latin1')))).toEqual([]);
});
