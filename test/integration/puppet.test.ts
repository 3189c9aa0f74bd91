import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from 'vitest';
import { packDirectory } from '../../lib/content/pack.ts';
import { type ApplyResult, checkManifest } from '../../lib/daemons/puppet/puppet.ts';
import { applyContent, type ApplyRequest } from '../../lib/reconciler/apply/install.ts';
import {
  endProcessGroup,
  type ProcessIdentity,
  readProcess,
} from '../../lib/system/process-group.ts';
import { givenFactsConf, writeGivenFacts } from '../support/fleet/node-files.ts';
import { tarOf, zipOf } from '../support/run/archives.ts';
import { readTree, writeTree } from '../support/run/tree.ts';
import { waitFor as poll } from '../support/run/wait-for.ts';

const agentConf =
  '[main]\nnoop = true\nsplay = true\nreports = http\nreporturl = http://203.0.113.1/\nserver = puppet.invalid\n' +
  'environment = staging\ntags = none\nskip_tags = file,notify,exec\nuse_cached_catalog = true\n' +
  'disable_per_environment_manifest = true\ndefault_manifest = /nonexistent.pp\n';

// One node's directories for the whole file, as in life: each run finds the traces of the one before.
let node: string;
let run: string;
let runs = 0;
let config: ApplyRequest['config'];

beforeAll(() => {
  node = mkdtempSync(join(tmpdir(), 'puppet node '));
  writeTree(node, {
    // Settings that an administrator may have made for the agent, and no update may depend on.
    'conf/puppet.conf': `${agentConf}${givenFactsConf('n1')}`,
    'conf with collected facts/puppet.conf': agentConf,
    // Puppet without any network: what needs a server or the Forge fails.
    'offline-puppet': '#!/bin/sh\nexec unshare --net -- puppet "$@"\n',
  });
  chmodSync(join(node, 'offline-puppet'), 0o755);
  // Collecting them is half of a run.
  writeGivenFacts(join(node, 'var'), 'n1');
  config = {
    command: join(node, 'offline-puppet'),
    timeoutSeconds: 900,
    confDir: join(node, 'conf'),
    varDir: join(node, 'var'),
    moduleDir: join(node, 'path/modules'),
    modulePath: ['/usr/share/puppet/modules.available/none', join(node, 'more')],
    deliveryDir: join(node, 'files'),
    moduleStoreDir: join(node, 'store'),
  };
});
afterAll(() => {
  rmSync(node, { recursive: true, force: true });
});
beforeEach(() => {
  runs += 1;
  run = join(node, `run-${runs}`);
  mkdirSync(run);
});

let applied = 0;
function apply(
  kind: ApplyRequest['kind'],
  name: string,
  content: string | Buffer,
  more: Partial<ApplyRequest> = {},
): Promise<ApplyResult> {
  return applyContent(request(kind, name, content, more));
}

function request(
  kind: ApplyRequest['kind'],
  name: string,
  content: string | Buffer,
  more: Partial<ApplyRequest> = {},
): ApplyRequest {
  applied += 1;
  const directory = join(run, `staging-${applied}`);
  mkdirSync(join(directory, 'work'), { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, name), content);
  return {
    kind,
    contentPath: join(directory, name),
    name,
    channel: 'web',
    version: 1_700_000_001,
    workDir: join(directory, 'work'),
    logFile: join(run, 'log'),
    noop: false,
    config,
    ...more,
  };
}

const waitFor = (what: string, condition: () => boolean | Promise<boolean>): Promise<true> =>
  poll(what, condition, undefined, log);
const log = (): string => readFileSync(join(run, 'log'), 'utf8');

async function isAlive(pid: number): Promise<boolean> {
  const stat = await readProcess(pid);
  return stat !== undefined && !stat.isZombie;
}

/** For a shell: prints its process id, then hangs. */
const hang = 'echo \\$\\$ > hang; sleep 613';
const isWritten = (name: string): boolean =>
  existsSync(join(run, name)) && readFileSync(join(run, name), 'utf8').endsWith('\n');
const pidFile = (name: string): number => Number(readFileSync(join(run, name), 'utf8'));

describe('a manifest', () => {
  test('is applied, and changes nothing the second time', async () => {
    const target = join(run, 'made');
    const manifest = `
      file { '${target}':
        content => "\${facts['p2p_update_channel']} \${facts['p2p_update_version']}",
      }
      exec { '/bin/sh -c "umask > umask; env > env"': cwd => '${run}', creates => '${run}/env' }`;
    const identities: ProcessIdentity[] = [];
    const onStart = (identity: ProcessIdentity): void => void identities.push(identity);
    const umask = process.umask(0o077);
    const collecting = { ...config, confDir: join(node, 'conf with collected facts') };
    try {
      const first = await apply('manifest', 'site.pp', manifest, { onStart, config: collecting });
      expect(first).toEqual({ ok: true, reason: 'applied', exitCode: 2, changed: 2, failed: 0 });
    } finally {
      process.umask(umask);
    }
    expect(readFileSync(target, 'utf8')).toBe('web 1700000001');
    expect(statSync(target).mode & 0o777).toBe(0o644);
    expect(readFileSync(join(run, 'umask'), 'utf8')).toBe('0022\n');
    expect(readFileSync(join(run, 'env'), 'utf8')).not.toMatch(/npm_|VITEST|NODE_/);
    expect(identities).toHaveLength(1);
    expect(log()).toContain('Applied catalog');
    expect(log()).not.toContain('\u001b');
    expect(statSync(join(run, 'log')).mode & 0o777).toBe(0o600);

    const second = await apply('manifest', 'site.pp', manifest, { config: collecting });
    expect(second).toEqual({ ok: true, reason: 'applied', exitCode: 0, changed: 0, failed: 0 });
  });

  test('changes nothing as noop, and lists the resources of every stage', async () => {
    const manifest = `
      stage { 'setup': before => Stage['main'] }
      class early { file { '${run}/early': content => 'x' } }
      class { 'early': stage => setup }
      file { '${run}/made': content => 'x' }`;
    const result = await apply('manifest', 'site.pp', manifest, { noop: true });
    expect(result).toMatchObject({
      ok: true,
      reason: 'noop: resources that would change: 2',
      changed: 0,
      wouldChange: [
        `Stage[setup]/Early/File[${run}/early]/ensure`,
        `Main/File[${run}/made]/ensure`,
      ],
    });
    expect(existsSync(join(run, 'made'))).toBe(false);
  });

  test('fails with the resources that failed, and why', async () => {
    const manifest = `
      file { '${run}/made': content => 'x' }
      exec { '/bin/false': }
      file { '/nonexistent/a/b': content => 'x' }`;
    const result = await apply('manifest', 'site.pp', manifest);
    expect(result).toEqual({
      ok: false,
      reason: 'Exec[/bin/false]: returned 1; also failed: File[/nonexistent/a/b]',
      exitCode: 6,
      changed: 1,
      failed: 2,
    });
  });

  test("changes nothing when it does not compile, and reports Puppet's error", async () => {
    const result = await apply(
      'manifest',
      'site.pp',
      `file { '${run}/made': ensure => file }\ninclude absent\n`,
    );
    // Nor does an earlier run's summary show through.
    expect(result).toMatchObject({ ok: false, exitCode: 1, changed: null, failed: null });
    expect(result.reason).toMatch(/^Could not find class ::absent for \S+ \(site\.pp:2:1\)$/);
    expect(existsSync(join(run, 'made'))).toBe(false);
  });

  test('is ended with all that it started when it hangs', async () => {
    const manifest = `
      Exec { cwd => '${run}', timeout => 0 }
      exec { 'leave an orphan': command => '/bin/sh -c "sleep 611 & echo \\$! > orphan"' }
      -> exec { 'hang': command => '/bin/sh -c "sleep 612 & echo \\$! > child; ${hang}"' }`;
    let leader = 0;
    // The time that it has, and no other timer: how long Puppet takes to come so far is the machine's affair.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const result = apply('manifest', 'site.pp', manifest, {
      onStart: ({ processGroup }) => void (leader = processGroup),
    });
    await waitFor('it hangs', () => ['orphan', 'child', 'hang'].every(isWritten));
    vi.advanceTimersByTime(config.timeoutSeconds * 1000);
    expect(await result).toEqual({
      ok: false,
      // Puppet may still say that the command was ended, before it is ended itself.
      reason: expect.stringMatching(
        /^timeout, (in Exec\[hang\]|after Exec\[leave an orphan\])$/,
      ) as string,
      exitCode: null,
      changed: null,
      failed: null,
    });
    expect(await isAlive(leader)).toBe(false);
    for (const name of ['orphan', 'child', 'hang'])
      expect(await isAlive(pidFile(name)), name).toBe(false);
  });

  test('survives the kill of the apply side, and is then ended by its record', async () => {
    const manifest = `exec { '/bin/sh -c "sleep 621 & echo \\$! > child; ${hang}"':
      cwd => '${run}', timeout => 0 }`;
    const module = new URL('../../lib/reconciler/apply/install.ts', import.meta.url).href;
    const script = `
      import { writeFileSync } from 'node:fs';
      import { applyContent } from ${JSON.stringify(module)};
      const request = ${JSON.stringify(request('manifest', 'site.pp', manifest))};
      await applyContent({
        ...request,
        onStart: (identity) => writeFileSync(${JSON.stringify(join(run, 'identity'))}, JSON.stringify(identity)),
      });`;
    const args = ['--import', 'tsx', '--input-type=module', '-e', script];
    const parent = spawn(process.execPath, args, { stdio: 'inherit' });
    await waitFor('the exec to hang', () => isWritten('hang'));
    parent.kill('SIGKILL');
    const identity = JSON.parse(readFileSync(join(run, 'identity'), 'utf8')) as ProcessIdentity;
    // Puppet's own end must not hide its exec: that one is in a session of its own.
    process.kill(identity.processGroup, 'SIGKILL');
    await waitFor('Puppet to die', async () => !(await isAlive(identity.processGroup)));
    expect(await isAlive(pidFile('hang'))).toBe(true);

    await endProcessGroup(identity);
    for (const name of ['hang', 'child']) expect(await isAlive(pidFile(name)), name).toBe(false);
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'is tried again when it is ended from outside (%s)',
    async (signal) => {
      const manifest = `exec { '/bin/sh -c "${hang}"': cwd => '${run}', timeout => 0 }`;
      let leader = 0;
      const result = apply('manifest', 'site.pp', manifest, {
        onStart: ({ processGroup }) => void (leader = processGroup),
      });
      const outcome = expect(result).rejects.toMatchObject({ code: 'try-later' });
      await waitFor('the exec to hang', () => isWritten('hang'));
      process.kill(leader, signal);
      await outcome;
      expect(await isAlive(pidFile('hang'))).toBe(false);
    },
  );
});

describe('a module', () => {
  const metadata = (name: string): string =>
    JSON.stringify({
      name,
      version: '1.0.0',
      author: 'acme',
      license: 'Apache-2.0',
      source: 'https://example.invalid/hello',
      // Never fetched: neither there nor wanted.
      dependencies: [{ name: 'puppetlabs/absent', version_requirement: '>= 1.0.0' }],
    });
  const hello = (greeting: string, name = 'acme/hello'): Buffer =>
    tarOf([
      {
        name: 'acme-hello-1.0.0/metadata.json',
        content: metadata(name),
      },
      {
        name: 'acme-hello-1.0.0/manifests/init.pp',
        content: `class hello(String $to) { file { $to: content => '${greeting}' } }`,
      },
      { name: 'acme-hello-1.0.0/files/run.sh', content: '#!/bin/sh\n', mode: 0o755 },
    ]);
  const use = (): Promise<ApplyResult> =>
    apply('manifest', 'use.pp', `class { 'hello': to => '${run}/greeting' }`);

  test('is installed, and the same version with other content takes effect', async () => {
    const umask = process.umask(0o077);
    try {
      for (const [greeting, name, content] of [
        ['good morning', 'hello.tgz', gzipSync(hello('good morning'))],
        ['good evening', 'any-name.tar', hello('good evening')],
      ] as const) {
        const result = await apply('module', name, content);
        expect(result, log()).toMatchObject({ ok: true, reason: 'applied', exitCode: 0 });
        expect(await use()).toMatchObject({ ok: true, changed: 1 });
        expect(readFileSync(join(run, 'greeting'), 'utf8')).toBe(greeting);
      }
    } finally {
      process.umask(umask);
    }
    expect(log()).not.toMatch(/Downloading|forgeapi/);

    expect(readdirSync(config.moduleDir)).toEqual(['hello']);
    const [stored, ...others] = readdirSync(config.moduleStoreDir);
    expect(stored).toMatch(/^acme-hello-1\.0\.0-[0-9a-f]{16}-/);
    expect(others).toEqual([]);
    const link = readlinkSync(join(config.moduleDir, 'hello'));
    expect(link).toBe(join(config.moduleStoreDir, stored ?? '', 'hello'));
    const tree = readTree(link);
    expect(tree['manifests/init.pp']).toMatch(/^644 .*good evening/);
    expect(tree['files/run.sh']).toMatch(/^755 /);
    // The apply side has umask 077, and catalogs may be compiled by another user.
    for (const directory of [config.moduleDir, config.moduleStoreDir, join(link, '..')])
      expect(statSync(directory).mode & 0o777, directory).toBe(0o755);
  });

  test.each<[string, RegExp, (path: string) => void]>([
    [
      'a directory',
      /not installed by p2p-update/,
      (path) => {
        mkdirSync(path);
      },
    ],
    [
      'a file',
      /not installed by p2p-update/,
      (path) => {
        writeFileSync(path, '');
      },
    ],
    [
      "another user's link",
      /did not make/,
      (path) => {
        symlinkSync('/etc', path);
      },
    ],
    [
      "another author's module",
      /belongs to another/,
      (path) => {
        symlinkSync(join(node, 'store/other-mine-1.0.0-0-x/mine'), path);
      },
    ],
  ])('never takes the place of %s', async (_, reason, make) => {
    const place = join(config.moduleDir, 'mine');
    rmSync(place, { recursive: true, force: true });
    mkdirSync(config.moduleDir, { recursive: true });
    make(place);
    const result = await apply('module', 'mine.tar', hello('x', 'acme/mine'));
    expect(result).toMatchObject({ ok: false, exitCode: null });
    expect(result.reason).toMatch(reason);
    expect(
      readdirSync(config.moduleStoreDir).filter((name) => name.startsWith('acme-mine')),
    ).toEqual([]);
    rmSync(place, { recursive: true });
  });

  test.each<[string, Buffer]>([
    ['without metadata.json', tarOf([{ name: 'manifests/init.pp' }])],
    [
      'with a link',
      tarOf([
        { name: 'metadata.json', content: metadata('a/b') },
        { name: 'etc', type: 'SymbolicLink', linkpath: '/etc' },
      ]),
    ],
    ['with a hostile name', tarOf([{ name: 'metadata.json', content: metadata('a/../../b') }])],
    ['that is no archive', Buffer.from('x'.repeat(600))],
  ])('a module %s is malformed, and never reaches Puppet', async (_, content) => {
    const before = readTree(config.moduleDir);
    await expect(apply('module', 'bad.tar', content)).rejects.toMatchObject({ code: 'malformed' });
    expect(existsSync(join(run, 'log'))).toBe(false);
    expect(readTree(config.moduleDir)).toEqual(before);
  });
});

describe('an environment', () => {
  const files = (): Record<string, string> => ({
    'manifests/site.pp': 'include inner\n',
    'manifests/two/more.pp': `file { '${run}/two': content => $environment }\n`,
    'modules/inner/manifests/init.pp': `class inner(String $greeting) { file { '${run}/one': content => "\${greeting} \${lookup('who')}" } }\n`,
    'hiera.yaml':
      'version: 5\ndefaults: { datadir: data, data_hash: yaml_data }\nhierarchy: [{ name: common, path: common.yaml }]\n',
    'data/common.yaml': 'inner::greeting: hello\nwho: "wörld"\n',
  });

  test('is applied when packed from a directory, with its module, Hiera data and all manifests', async () => {
    writeTree(join(run, 'env'), files());
    await packDirectory(join(run, 'env'), join(run, 'env.tar.gz'));
    const content = readFileSync(join(run, 'env.tar.gz'));
    const result = await apply('environment', 'env.tar.gz', content);
    expect(result, log()).toMatchObject({ ok: true, reason: 'applied', exitCode: 2, changed: 2 });
    expect(readFileSync(join(run, 'one'), 'utf8')).toBe('hello wörld');
    expect(readFileSync(join(run, 'two'), 'utf8')).toBe('production');
  });

  test('is applied from a .zip too, with its environment.conf, below the Hiera data of the node', async () => {
    const own = join(config.confDir, 'hiera.yaml');
    const hierarchy = `[{ name: node, data_hash: yaml_data, path: '${node}/node.yaml' }]`;
    writeTree(node, { 'node.yaml': 'who: this node' });
    writeFileSync(own, `version: 5\nhierarchy: ${hierarchy}\n`);
    const tree = {
      ...files(),
      'environment.conf': 'modulepath = site:modules:$basemodulepath\n',
      'manifests/site.pp': 'include outer\n',
      'site/outer/manifests/init.pp': 'class outer { include inner }\n',
    };
    const entries = Object.entries(tree).map(([name, content]) => ({
      name: `top/${name}`,
      content,
    }));
    const result = await apply('environment', 'under-any-name', zipOf(entries));
    rmSync(own);
    expect(result, log()).toMatchObject({ ok: true, changed: 2 });
    expect(readFileSync(join(run, 'one'), 'utf8')).toBe('hello this node');
  });

  test.each<[string, Record<string, string>, string]>([
    ['another one', { 'code/site.pp': 'RIGHT', 'manifests/.gitkeep': '' }, 'code/site.pp'],
    [
      'one of several',
      { 'manifests/site.pp': 'RIGHT', 'manifests/zz_old.pp': "fail('old')" },
      'manifests/site.pp',
    ],
  ])(
    'is applied by the manifest that its environment.conf names: %s',
    async (_, tree, manifest) => {
      const right = `file { '${run}/right': content => lookup('who') }`;
      const entries = Object.entries({
        ...tree,
        'environment.conf': `manifest = ${manifest}\n`,
        'hiera.yaml': 'version: 5\nhierarchy: [{ name: all, path: common.yaml }]\n',
        'data/common.yaml': 'who: its data\n',
      }).map(([name, content]) => ({
        name: `site-main/${name}`,
        content: content.replace('RIGHT', right),
      }));
      const result = await apply('environment', 'site-main.tar.gz', gzipSync(tarOf(entries)));
      expect(result, log()).toMatchObject({ ok: true, exitCode: 2, changed: 1 });
      expect(readFileSync(join(run, 'right'), 'utf8')).toBe('its data');
    },
  );

  test.each<[string, string, RegExp]>([
    ['environment.conf', 'manifest = /etc/site.pp\n', /manifest = \/etc\/site.pp/],
    ['environment.conf', 'modulepath = ../m\n', /modulepath/],
    ['environment.conf', 'config_version = /bin/date\n', /config_version/],
    ['hiera.yaml', ':backends: [yaml]\n', /version 3/],
  ])('with %s that says %j is malformed, and Puppet is not run', async (name, content, reason) => {
    const entries = [
      { name: 'manifests/site.pp', content: 'notice(1)' },
      { name, content },
    ];
    const applied = apply('environment', 'env.tar.gz', gzipSync(tarOf(entries)));
    await expect(applied).rejects.toThrow(reason);
    await expect(applied).rejects.toMatchObject({ code: 'malformed' });
    expect(existsSync(join(run, 'log'))).toBe(false);
  });

  test.each<[string, string, Buffer]>([
    ['without any manifest', 'env.tar', tarOf([{ name: 'manifests/README' }])],
    ['without manifests/', 'env.tar', tarOf([{ name: 'data/common.yaml' }])],
    [
      'with a link',
      'env.zip',
      zipOf([{ name: 'manifests/site.pp' }, { name: 'modules', mode: 0o120777, content: '/etc' }]),
    ],
  ])('an environment %s is malformed', async (_, name, content) => {
    await expect(apply('environment', name, content)).rejects.toMatchObject({ code: 'malformed' });
    expect(existsSync(join(run, 'log'))).toBe(false);
  });
});

describe('a file', () => {
  test('is delivered under its name, readable, and replaced by the next', async () => {
    const umask = process.umask(0o077);
    try {
      for (const content of ['one', 'two'])
        expect(await apply('file', 'motd.txt', content)).toMatchObject({ ok: true });
    } finally {
      process.umask(umask);
    }
    expect(readTree(config.deliveryDir)).toEqual({ 'motd.txt': '644 two' });
    expect(statSync(config.deliveryDir).mode & 0o777).toBe(0o755);
  });

  test('replaces a link in its place and does not follow it', async () => {
    const victim = join(run, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, join(config.deliveryDir, 'linked'));
    // Where a killed run would have left its half; and no link may wait there either.
    symlinkSync(victim, join(config.deliveryDir, '.p2p-update-linked'));
    expect(await apply('file', 'linked', 'new')).toMatchObject({ ok: true });
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(readTree(config.deliveryDir)).toMatchObject({ linked: '644 new' });
    expect(readdirSync(config.deliveryDir)).not.toContain('.p2p-update-linked');
  });

  test('does not replace a directory', async () => {
    writeTree(config.deliveryDir, { 'taken/inside': 'precious' });
    const result = await apply('file', 'taken', 'new');
    expect(result).toMatchObject({ ok: false });
    expect(result.reason).toContain('taken is a directory');
    expect(readTree(config.deliveryDir)['taken/inside']).toContain('precious');
  });
});

describe('without Puppet', () => {
  const command = '/nonexistent/puppet';

  test('an update waits', async () => {
    const without = { config: { ...config, command } };
    await expect(apply('manifest', 'site.pp', '', without)).rejects.toMatchObject({
      code: 'try-later',
      hint: expect.stringContaining('puppet-agent') as string,
    });
    // Installed, but its interpreter is not.
    writeFileSync(join(run, 'puppet'), '#!/nonexistent/ruby\n', { mode: 0o755 });
    const broken = { config: { ...config, command: join(run, 'puppet') } };
    await expect(apply('manifest', 'site.pp', '', broken)).rejects.toMatchObject({
      code: 'try-later',
    });
  });

  test('a module waits too, and leaves nothing in the store', async () => {
    const before = readdirSync(config.moduleStoreDir);
    const rest = '"author":"a","license":"","source":"","dependencies":[]';
    const content = `{"name":"a/b","version":"1.0.0",${rest}}`;
    const module = tarOf([{ name: 'metadata.json', content }]);
    const without = { config: { ...config, command } };
    await expect(apply('module', 'b.tar', module, without)).rejects.toMatchObject({
      code: 'try-later',
    });
    expect(readdirSync(config.moduleStoreDir)).toEqual(before);
  });

  test('a file is delivered', async () => {
    const without = { config: { ...config, command } };
    expect(await apply('file', 'plain', 'x', without)).toMatchObject({ ok: true });
  });

  test('a manifest cannot be checked', async () => {
    const path = join(run, 'site.pp');
    writeFileSync(path, '');
    await expect(checkManifest(path, path, { ...config, command })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });
});

describe('checkManifest', () => {
  test('passes a good manifest, and leaves the directories of Puppet alone', async () => {
    const path = join(run, '-good.pp');
    writeFileSync(path, 'notice("hello")\n');
    const elsewhere = { confDir: join(run, 'conf'), varDir: join(run, 'var') };
    await checkManifest(path, path, { ...config, ...elsewhere });
    expect(readdirSync(run)).toEqual([basename(path)]);
  });

  test("refuses a bad one with Puppet's message, and the name, line and column of what was typed", async () => {
    const path = join(run, 'bad.pp');
    writeFileSync(path, 'notify { "a":\n  message =>\n}\n');
    await expect(checkManifest(path, './site/bad.pp', config)).rejects.toMatchObject({
      code: 'malformed',
      message: `"./site/bad.pp" does not parse: line 3, column 1: Syntax error at '}'`,
      hint: expect.stringMatching(/validate \/\S+\/site\/bad\.pp$/) as string,
    });
  });
});
