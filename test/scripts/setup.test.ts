import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { shellCommand } from '../../lib/command-hint.ts';
import { parseRequest } from '../../scripts/setup/arguments.ts';
import { runCommand } from '../support/fleet/operator.ts';
import { refusal } from '../support/run/refusal.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { Image, whyNoImage } from '../support/split/setup-image.ts';

const code = '/opt/p2p-update';
const keySet =
  /```text keyset\n([^`]*)```/.exec(
    readFileSync(join(repository, 'docs/announcement.md'), 'utf8'),
  )?.[1] ?? 'no example';

describe('setup, on the image of a node', () => {
  const obstacle = whyNoImage();
  beforeEach(({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
  });

  const ours = ['/etc', '/var'];
  const keyFile = (text: string): string => {
    const file = join(temporaryDirectory(), 'keyset.txt');
    writeFileSync(file, text);
    return file;
  };

  it.each(['000', '022', '077'])(
    'makes user, directories and files with their owners and modes, with umask %s',
    async (umask) => {
      const image = new Image();
      const { status, stdout, stderr } = await image.setup(['--keyset', keyFile(keySet)], umask);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const [, uid, gid] = /^p2p-update:[^:]*:(\d+):(\d+):/m.exec(image.read('/etc/passwd')) ?? [];
      expect(image.read('/etc/passwd')).toMatch(/^p2p-update:.*:\/nonexistent:\S*\/nologin$/m);
      expect(image.read('/etc/group')).toMatch(/^debian-transmission:x:107:p2p-update$/m);
      const state = `${uid ?? ''}:${gid ?? ''} 0750`;
      const template = readFileSync(join(repository, 'scripts/setup/transmission-done.sh'), 'utf8');
      const hook = template.replace('@APPLY@', '/var/lib/p2p-update/apply');
      expect(image.tree('/var', '/etc/p2p-update')).toEqual({
        '/var': '0:0 0755',
        '/var/lib': '0:0 0755',
        '/var/lib/p2p-update': '0:0 0755',
        '/var/lib/p2p-update/apply': '0:0 0755',
        '/var/lib/p2p-update/apply/complete': '0:107 0730',
        '/var/lib/p2p-update/apply/keysets': '0:0 0755',
        '/var/lib/p2p-update/apply/modules': '0:0 0755',
        '/var/lib/p2p-update/apply/outcomes': '0:0 0755',
        '/var/lib/p2p-update/apply/runs': '0:0 0700',
        '/var/lib/p2p-update/apply/staging': '0:0 0700',
        '/var/lib/p2p-update/files': '0:0 0755',
        '/var/lib/p2p-update/state': state,
        '/var/lib/p2p-update/state/announcements': state,
        '/var/lib/p2p-update/state/pending': state,
        '/var/lib/p2p-update/state/torrents': state,
        '/var/lib/p2p-update/state/reseeds': state,
        '/var/lib/p2p-update/state/updates': state,
        '/etc/p2p-update': '0:0 0755',
        '/etc/p2p-update/config.json': '0:0 0644 {}\n',
        '/etc/p2p-update/keyset.txt': `0:0 0644 ${keySet}`,
        '/etc/p2p-update/setup.json': '0:0 0644 {"scheduler":"systemd","daemons":false}\n',
        '/etc/p2p-update/transmission-done': `0:0 0755 ${hook}`,
      });
      expect(stdout).toContain(
        shellCommand('systemctl', '--root', image.root, 'enable', 'p2p-update-advance.path'),
      );

      const before = image.tree(...ours);
      const again = await image.setup(['--keyset', keyFile(keySet)]);
      // Not "nothing to do": what is left to do by hand follows.
      expect(again.stdout).toMatch(/^every file is as it should be\n\nLeft to do:\n1\. /);
      expect(image.tree(...ours)).toEqual(before);
    },
  );

  it('prints the plan with --dry-run, and changes nothing', async () => {
    const image = new Image();
    const before = image.tree('/');
    const shown = await image.setup(['--dry-run']);
    expect(shown).toMatchObject({ status: 0, stderr: '' });
    expect(shown.stdout).toMatch(/^add user +p2p-update +no shell, no home +missing$/m);
    expect(shown.stdout).toMatch(
      /^make +\/var\/lib\/p2p-update\/apply\/complete +root:debian-transmission 0730 +missing$/m,
    );
    expect(image.tree('/')).toEqual(before);
    const { stdout } = await image.setup(['--dry-run', '--json']);
    const plan = JSON.parse(stdout) as { dryRun: boolean; steps: { action: string }[] };
    expect(plan).toMatchObject({ dryRun: true, code, scheduler: 'systemd', root: image.root });
    expect(plan.steps.map(({ action }) => action)).toEqual(
      shown.stdout
        .split('\n\n')[0]
        ?.trim()
        .split('\n')
        .map((line) => line.split(/ {2,}/)[0]),
    );
    expect(image.tree('/')).toEqual(before);
  });

  it('corrects wrong owners and modes, and reports the old ones', async () => {
    const image = new Image();
    await image.setup();
    const before = image.tree(...ours);
    const at = (path: string): string => image.at(`/var/lib/p2p-update/${path}`);
    chmodSync(at('apply/complete'), 0o1777);
    chmodSync(at('apply/staging'), 0o755);
    chownSync(at('state'), 0, 0);
    chownSync(at('apply/outcomes'), 106, 107);
    chmodSync(image.at('/etc/p2p-update/config.json'), 0o666);
    const { status, stdout } = await image.setup();
    expect(status).toBe(0);
    expect(stdout).toMatch(/^correct +\S+complete .* was root:debian-transmission 1777$/m);
    expect(stdout).toMatch(/^correct +\S+outcomes .* was debian-transmission:debian-transmission/m);
    expect(stdout).toMatch(/^correct +\S+state .* was root:root 0750$/m);
    expect(stdout).toContain('look through /etc/p2p-update/config.json');
    expect(image.tree(...ours)).toEqual(before);
  });

  it.each<[string, string, number, RegExp]>([
    ['a foreign key set', keySet.replace('example', 'another'), 76, /another key set/],
    ['a later key set of the fleet', keySet.replace('epoch 7', 'epoch 8'), 76, /another key set/],
    ['text that is no key set', 'keys\n', 65, /a key set begins with/],
  ])('refuses %s, and changes nothing', async (_, text, code, message) => {
    const image = new Image();
    await image.setup(['--keyset', keyFile(keySet)]);
    chmodSync(image.at('/var/lib/p2p-update/files'), 0o700);
    const before = image.tree('/');
    for (let attempt = 1; attempt <= 2; attempt += 1) {
      const { status, stdout, stderr } = await image.setup(['--keyset', keyFile(text)]);
      expect({ status, stdout }).toEqual({ status: code, stdout: '' });
      expect(stderr).toMatch(message);
      expect(stderr).toMatch(/^setup: hint: /m);
    }
    expect(image.tree('/')).toEqual(before);
  });

  it('gives the node its name and tags', async () => {
    const image = new Image();
    await image.setup(['--node-name', 'pi-07', '--tag', 'role=web', '--tag', 'note=a=b']);
    await image.setup(['--tag', 'role=db']);
    expect(JSON.parse(image.read('/etc/p2p-update/config.json'))).toEqual({
      nodeName: 'pi-07',
      tags: { role: 'db', note: 'a=b' },
    });
  });

  it('follows no link out of the image', async () => {
    const image = new Image();
    const outside = temporaryDirectory();
    mkdirSync(image.at('/var/lib'), { recursive: true });
    symlinkSync(outside, image.at('/var/lib/p2p-update'));
    const { status, stderr } = await image.setup();
    expect(status).toBe(78);
    expect(stderr).toMatch(/\/var\/lib\/p2p-update must be a directory, but is a link/);
    expect(readdirSync(outside)).toEqual([]);
    expect(image.read('/etc/passwd')).not.toContain('p2p-update');
  });

  it.each<[string, (image: Image) => void, RegExp]>([
    [
      'a directory that others may write to',
      (image) => {
        chmodSync(image.at('/opt'), 0o777);
      },
      /root would run what others can change: .*\/opt can be changed/,
    ],
    [
      'code of another owner',
      (image) => {
        chownSync(image.at(code), 106, 107);
      },
      /root would run what others can change/,
    ],
    [
      'a file in dist/ of another owner',
      (image) => {
        chownSync(image.at(`${code}/dist/commands/reconcile.cjs`), 106, 0);
      },
      /reconcile\.cjs can be changed by a user other than root/,
    ],
    [
      'a Node that others may replace',
      (image) => {
        chmodSync(dirname(image.at(process.execPath)), 0o775);
      },
      /root would run what others can change/,
    ],
    [
      'a Node by way of PATH',
      (image) => {
        image.write(`${code}/dist/p2p-update.cjs`, '#!/usr/bin/env node\n');
      },
      /p2p-update\.cjs does not name its Node/,
    ],
    [
      'a Node that the image does not have',
      (image) => {
        rmSync(image.at(process.execPath));
      },
      /which is missing/,
    ],
    [
      'code that is not built',
      (image) => {
        rmSync(image.at(`${code}/dist`), { recursive: true });
      },
      /p2p-update is not built/,
    ],
    [
      'code that the other users cannot reach',
      (image) => {
        chmodSync(image.at(code), 0o700);
      },
      /is closed to p2p-update/,
    ],
    [
      'a handler without its run bit',
      (image) => {
        chmodSync(image.at(`${code}/dist/handlers/update.cjs`), 0o644);
      },
      /update\.cjs is closed to p2p-update/,
    ],
  ])('refuses %s before anything is changed', async (_, spoil, message) => {
    const image = new Image();
    spoil(image);
    const before = image.tree('/');
    const { status, stdout, stderr } = await image.setup();
    expect({ status, stdout }).toEqual({ status: 78, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^setup: hint: /m);
    expect(image.tree('/')).toEqual(before);
  });

  it('links the program into PATH as root, and leaves another file of that name', async () => {
    const image = new Image();
    const link = '/usr/local/bin/p2p-update';
    expect((await image.setup()).stdout).toMatch(/^link +\/usr\/local\/bin\/p2p-update +/m);
    expect(image.tree('/usr/local/bin')[link]).toBe(`-> ${code}/dist/p2p-update.cjs`);
    rmSync(image.at(link));
    image.write(link, 'theirs', 0o755);
    const { status, stdout } = await image.setup();
    expect(status).toBe(0);
    expect(stdout).toContain(`ln -sfn ${code}/dist/p2p-update.cjs ${link}`);
    expect(image.read(link)).toBe('theirs');
  });

  it('uses the directories of the configuration', async () => {
    const image = new Image();
    const config = { stateDir: '/srv/p2p/state', applyDir: '/srv/p2p/apply' };
    image.write('/etc/p2p-update/config.json', JSON.stringify(config));
    await image.setup();
    expect(image.tree('/srv')['/srv/p2p/apply/complete']).toBe('0:107 0730');
    expect(image.read('/etc/systemd/system/p2p-update-advance.service')).toContain(
      'ReadWritePaths=/srv/p2p/state /srv/p2p/apply/complete',
    );
  });
});

describe('setup', () => {
  it.each<[string, string[], RegExp]>([
    ['two schedulers', ['--systemd', '--cron'], /exclude each other/],
    ['a tag without a value', ['--tag', 'role'], /--tag needs KEY=VALUE/],
    ['a tag without a key', ['--tag', '=web'], /--tag needs KEY=VALUE/],
    ['an empty name', ['--node-name', ''], /--node-name needs/],
    ['an image that is not there', ['--root', '/nonexistent/image'], /there is no directory/],
    ['an unknown option', ['--force'], /--force/],
    ['two fleets', ['--new-fleet', 'a', '--join', 'b'], /give one of them/],
    ['two ways to give the invitation', ['--invite', 'f', '--token', '-'], /give one of them/],
    ['a fleet with a space in its name', ['--new-fleet', 'my lab'], /printable ASCII/],
    ['a key set beside a fleet', ['--new-fleet', 'a', '--keyset', 'f'], /set up by hand/],
    ['an address with a command', ['--join', '$(reboot)'], /--join needs HOST/],
    ['an address that is a name', ['--address', 'pi-01'], /--address needs an IP/],
    ['a fleet for a node that is removed', ['--remove', '--join', 'a'], /takes no keys/],
  ])('refuses %s', (_, args, message) => {
    const error = refusal(() => parseRequest(args));
    expect(error).toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message) as string,
    });
    expect(error.hint).toMatch(/setup --help$/);
  });

  it('takes no invitation in its arguments, where ps shows it, and does not repeat it', async () => {
    const args = ['--join', '192.0.2.1', '--token', 'p2p1-AbCdEf'];
    const { status, stdout, stderr } = await runCommand('setup', args);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toMatch(/--token takes only -, for standard input/);
    expect(stderr).not.toContain('AbCdEf');
  });

  it('reports a refusal in two lines, and exits with 64', async () => {
    const { status, stdout, stderr } = await runCommand('setup', ['--tag', 'role']);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toMatch(/^setup: error: --tag needs .+\nsetup: hint: .+ setup --help\n$/);
  });

  it('shows its help', async () => {
    const { status, stdout, stderr } = await runCommand('setup', ['--help']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: p2p-update setup --new-fleet NAME \[options\]/);
  });
});
