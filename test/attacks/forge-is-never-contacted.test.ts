import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { detectKind } from '../../lib/content/detect-kind.ts';
import { makeApplySide, type ApplySide } from '../support/fleet/apply-side.ts';
import { tarOf, zipOf } from '../support/run/archives.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';
import { waitFor } from '../support/run/wait-for.ts';
import { mustRun, runSync } from '../support/run/command.ts';

// Dependencies never come from outside: the Forge is not contacted for any module. Every
// address has a route here, into a network card that swallows and counts what is sent.

const forge = 'http://198.51.100.80';

/** A network of its own, since others in the sandbox may send what they like. */
const network = `forge-${process.pid}`;

function ip(commands: string): void {
  mustRun(['ip', '-batch', '-'], { input: commands });
}

beforeAll(() => {
  ip(`netns add ${network}`);
  // Without ARP the card sends to whatever address; what it would send by itself is IPv6's.
  const commands = `link set lo up
    link add forge0 type veth peer name forge1
    addr add 198.51.100.1/24 dev forge0
    link set forge1 up
    link set forge0 arp off addrgenmode none up
    route add default dev forge0
    route add prohibit 169.254.0.0/16`; // a cloud's metadata server, which Facter may ask
  const lines = commands.split('\n').map((line) => `-n ${network} ${line.trim()}`);
  for (const line of lines) {
    const { status, stderr } = runSync(['ip', ...line.split(' ')]);
    expect({ line, status, stderr }).toEqual({ line, status: 0, stderr: '' });
  }
});
afterAll(() => {
  ip(`netns delete ${network}`);
});

/** The traffic of all processes of this network: connections begun, datagrams, packets on the card. */
function countSent(): Record<'connections' | 'datagrams' | 'datagrams6' | 'packets', number> {
  const read = ['cat', ...['snmp', 'snmp6', 'dev'].map((name) => `/proc/self/net/${name}`)];
  const stdout = mustRun(['ip', 'netns', 'exec', network, ...read]);
  const column = (protocol: string, name: string): number => {
    const lines = stdout.split('\n').filter((line) => line.startsWith(`${protocol}:`));
    const [names = [], values = []] = lines.map((line) => line.split(' '));
    return Number(values[names.indexOf(name)]);
  };
  const counts = {
    connections: column('Tcp', 'ActiveOpens'),
    datagrams: column('Udp', 'OutDatagrams'),
    datagrams6: Number(/^Udp6OutDatagrams\s+(\d+)$/m.exec(stdout)?.[1]),
    // proc_pid_net(5): eight numbers of what was received, then bytes and packets sent.
    packets: Number(/^ *forge0:(?: *\d+){9} *(\d+)/m.exec(stdout)?.[1]),
  };
  for (const [name, count] of Object.entries(counts)) expect(count, name).not.toBeNaN();
  return counts;
}

/** A node with the real Puppet, every call of which to the network is on record. */
function makeNode(directory: string): { node: ApplySide; calls: () => string[] } {
  const confDir = join(directory, 'puppet', 'conf');
  const traces = join(directory, 'traces');
  const command = join(directory, 'traced-puppet');
  mkdirSync(traces);
  mkdirSync(confDir, { recursive: true });
  // Whom Puppet would ask: an address, so that it need not look up a name first.
  const settings = `[main]\nmodule_repository = ${forge}\nmanage_internal_file_permissions = false\n`;
  writeFileSync(join(confDir, 'puppet.conf'), settings);
  const trace = `strace -f -qq --seccomp-bpf -o '${traces}/'$$ -e trace=connect,sendto,sendmsg,sendmmsg`;
  writeFileSync(
    command,
    `#!/bin/sh\nexec nsenter --net=/run/netns/${network} ${trace} puppet "$@"\n`,
    { mode: 0o755 },
  );
  const defaults = makeApplySide(join(directory, 'defaults')).config;
  const node = makeApplySide(directory, {
    puppet: {
      ...defaults.puppet,
      command,
      timeoutSeconds: 40,
      confDir,
      moduleDir: join(directory, 'modules'),
    },
  });
  const calls = (): string[] =>
    readdirSync(traces).flatMap((name) =>
      readFileSync(join(traces, name), 'utf8')
        .split('\n')
        .filter((line) => line.includes('sa_family=AF_INET')),
    );
  return { node, calls };
}

const metadata = JSON.stringify({
  name: 'acme-needy',
  version: '1.0.0',
  author: 'acme',
  license: 'Apache-2.0',
  summary: 'wants things from outside',
  source: `${forge}/v3/files/acme-needy-1.0.0.tar.gz`,
  project_page: forge,
  issues_url: forge,
  dependencies: [
    { name: 'puppetlabs/stdlib', version_requirement: '>= 1.0.0' },
    { name: 'puppetlabs-concat', version_requirement: '= 99.0.0', repository: forge },
    { name: 'acme/absent' },
  ],
  requirements: [{ name: 'puppet', version_requirement: '>= 1.0.0' }],
  forge,
  repository: forge,
  module_repository: forge,
  registry: forge,
  'template-url': forge,
});

/** All that has ever told a tool of Puppet where to fetch modules from. */
const settingsFiles = [
  { name: 'Puppetfile', content: `forge '${forge}'\nmod 'puppetlabs/stdlib'\n` },
  {
    name: 'Modulefile',
    content: `name 'acme-needy'\ndependency 'puppetlabs/stdlib', '>= 1.0.0'\n`,
  },
  {
    name: '.fixtures.yml',
    content: `fixtures:\n  forge_modules:\n    stdlib: puppetlabs/stdlib\n`,
  },
  { name: '.librarian/puppet/config', content: `forge: ${forge}\n` },
  { name: 'puppet.conf', content: `[main]\nmodule_repository = ${forge}\n` },
  { name: 'checksums.json', content: '{}' },
];
const moduleEntries = [
  { name: 'metadata.json', content: metadata },
  { name: 'manifests/init.pp', content: `class needy { }\n` },
  ...settingsFiles,
];

test('sees the connection attempts of Puppet without --ignore-dependencies, which asks the Forge', async () => {
  const directory = temporaryDirectory();
  const { node, calls } = makeNode(directory);
  const archive = join(directory, 'acme-needy-1.0.0.tar.gz');
  writeFileSync(
    archive,
    gzipSync(tarOf(moduleEntries.map((e) => ({ ...e, name: `acme-needy-1.0.0/${e.name}` })))),
  );
  const before = countSent();
  const { command, confDir } = node.config.puppet;
  const args = [
    'module',
    'install',
    `--confdir=${confDir}`,
    `--vardir=${directory}/var`,
    `--module_working_dir=${directory}/work`,
    `--target-dir=${directory}/m`,
    archive,
  ];
  const puppet = spawn(command, args, { detached: true, stdio: 'ignore' });
  const exit = once(puppet, 'exit');
  onTestFinished(async () => {
    process.kill(-(puppet.pid ?? 0), 'SIGKILL');
    await exit;
  });
  await waitFor('a call to the Forge', () =>
    calls().some((line) => line.includes('198.51.100.80')),
  );
  const sent = countSent();
  expect(sent.connections).toBeGreaterThan(before.connections);
  expect(sent.packets).toBeGreaterThan(before.packets);
});

test('installs a module with dependencies and registries of its own, and sends no packet', async () => {
  const directory = temporaryDirectory();
  const { node, calls } = makeNode(directory);
  const before = countSent();
  const content = gzipSync(tarOf(moduleEntries));
  // Submit asks no machine either.
  writeFileSync(join(directory, 'needy.tar.gz'), content);
  expect(await detectKind(join(directory, 'needy.tar.gz'), 'module')).toMatchObject({
    kind: 'module',
  });
  const update = node.receive({ kind: 'module', name: 'needy.tar.gz' }, content);
  await node.apply();
  expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
  const installed = readTree(join(node.config.puppet.moduleDir, 'needy'));
  expect(installed['manifests/init.pp']).toContain('class needy');
  expect(readdirSync(node.config.puppet.moduleDir)).toEqual(['needy']);
  expect(calls()).toEqual([]);
  expect(countSent()).toEqual(before);
});

test('applies an environment with such modules, and sends no packet to the Forge', async () => {
  const directory = temporaryDirectory();
  const { node, calls } = makeNode(directory);
  const made = join(directory, 'made');
  const entries = [
    { name: 'manifests/site.pp', content: `include needy\nfile { '${made}': content => 'x' }\n` },
    ...moduleEntries.map((entry) => ({ ...entry, name: `modules/needy/${entry.name}` })),
    ...settingsFiles,
  ];
  const before = countSent();
  const update = node.receive({ kind: 'environment', name: 'site.zip' }, zipOf(entries));
  await node.apply();
  expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
  expect(readFileSync(made, 'utf8')).toBe('x');
  // Facter may look up the node's own name.
  const toSomebody = calls().filter((line) => !line.includes('htons(53)'));
  expect(toSomebody).toEqual([]);
  expect(countSent().connections).toBe(before.connections);
});
