import { cpSync, existsSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../lib/config.ts';
import type { PlannedFile } from '../../../scripts/setup/plan.ts';
import { schedulerFiles } from '../../../scripts/setup/scheduler.ts';
import { repository } from '../../support/run/repository.ts';
import { Image, type Outcome, runProgram, whyNoImage } from '../../support/split/setup-image.ts';

const code = '/opt/p2p-update';

describe('the units and cron lines of setup', () => {
  const obstacle = whyNoImage();
  beforeEach(({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
  });

  it('run reconcile and apply by cron, each as its user, at boot and every minute', async () => {
    const image = new Image();
    const { stdout } = await image.setup(['--cron']);
    expect(existsSync(image.at('/etc/systemd'))).toBe(false);
    expect(image.tree('/var/lib')['/var/lib/serf']).toMatch(/^\d+:\d+ 0700$/);
    expect(image.tree('/etc/cron.d')['/etc/cron.d/p2p-update']).toMatch(/^0:0 0644 /);
    // crontab(5): comments, NAME=value, and five time fields or @reboot, a user, a command.
    const lines = image.read('/etc/cron.d/p2p-update').split('\n');
    expect(lines.pop()).toBe('');
    const jobs: string[][] = [];
    for (const line of lines) {
      if (line === '' || line.startsWith('#') || /^[A-Z]+=\S+$/.test(line)) continue;
      const [, when = '', user = '', command = ''] =
        /^(@reboot|\* \* \* \* \*) ([a-z0-9-]+) (.+)$/.exec(line) ?? [];
      // A % is a newline to cron.
      expect(command, line).toMatch(/^[^%]+$/);
      expect((await runProgram('/bin/sh', ['-n', '-c', command])).status).toBe(0);
      jobs.push([when, user, command.replace(`umask 077; exec ${code}/dist/`, '')]);
    }
    expect(jobs).toEqual([
      ['@reboot', 'p2p-update', 'p2p-update.cjs reconcile --no-wait'],
      ['@reboot', 'root', 'p2p-update.cjs apply --no-wait'],
      ['* * * * *', 'p2p-update', 'p2p-update.cjs reconcile --no-wait'],
      ['* * * * *', 'root', 'p2p-update.cjs apply --no-wait'],
    ]);
    expect(stdout).toContain('apt-get install cron');
  });

  it('come with a command to remove those of the other scheduler', async () => {
    const image = new Image();
    await image.setup(['--cron']);
    expect((await image.setup(['--systemd'])).stdout).toContain('rm /etc/cron.d/p2p-update');
    expect((await image.setup(['--cron'])).stdout).toContain('systemctl disable --now');
  });

  describe('with systemd', () => {
    const units = '/usr/lib/systemd/system';
    const installed = [
      'p2p-update-advance.path',
      'p2p-update-advance.timer',
      'p2p-update-advance.service',
      'p2p-update-apply.path',
      'p2p-update-apply.timer',
      'p2p-update-apply.service',
    ];
    const verify = (image: Image, names: readonly string[]): Promise<Outcome> =>
      runProgram('systemd-analyze', ['verify', `--root=${image.root}`, '--man=no', ...names]);
    beforeEach(async ({ skip }) => {
      if ((await runProgram('systemd-analyze', ['--version'])).status !== 0)
        skip('needs systemd-analyze: install the Debian package systemd');
    });
    const withSystemd = async (): Promise<Image> => {
      const image = new Image();
      // Where the packages left them: /lib is a link to /usr/lib, and systemd 257 reads the latter alone.
      cpSync(realpathSync('/lib/systemd/system'), image.at(units), {
        recursive: true,
        verbatimSymlinks: true,
      });
      for (const program of ['serf', 'install']) image.write(`/usr/bin/${program}`, '', 0o755);
      await image.setup();
      return image;
    };

    it("pass systemd-analyze verify, Debian's serf.service with its drop-in too", async () => {
      const image = await withSystemd();
      const serf = existsSync(image.at(`${units}/serf.service`)) ? ['serf.service'] : [];
      expect(await verify(image, [...installed, ...serf])).toEqual({
        status: 0,
        stdout: '',
        stderr: '',
      });
    });

    it('fail systemd-analyze verify with a wrong line or a missing program', async () => {
      const image = await withSystemd();
      const file = '/etc/systemd/system/p2p-update-apply.service';
      image.write(file, `${image.read(file)}KillMod=none\n`);
      rmSync(image.at(`${code}/dist/p2p-update.cjs`));
      const { stderr } = await verify(image, installed);
      expect(stderr).toMatch(/p2p-update-apply\.service:\d+: Unknown key.*'KillMod'/);
      expect(stderr).toMatch(/p2p-update\.cjs is not executable/);
    });
  });
});

describe("systemd's files", () => {
  const templates = join(repository, 'scripts/setup');
  const config = parseConfig('{}', 'the defaults');
  const nothing = { look: () => undefined, read: () => undefined };
  const textsOf = (planned: readonly PlannedFile[]): Record<string, string> =>
    Object.fromEntries(planned.map(({ path, text }) => [path, text]));
  const files = textsOf(schedulerFiles('systemd', code, templates, config, nothing));

  it('are left to the package where it has the same, and nothing stands in their place', () => {
    const unit = 'p2p-update-apply.service';
    const place = `/etc/systemd/system/${unit}`;
    const packaged = `/usr/lib/systemd/system/${unit}`;
    const write = (texts: Record<string, string>) =>
      schedulerFiles('systemd', code, templates, config, {
        look: (path) => (path in texts ? { type: 'file', uid: 0, gid: 0, mode: 0o644 } : undefined),
        read: (path) => texts[path],
      }).map(({ path }) => path);
    const text = files[place] ?? '';
    const all = Object.keys(files);
    expect(all).toContain(place);
    expect(write({ [packaged]: text })).toEqual(all.filter((path) => path !== place));
    expect(write({ [packaged]: `${text}# of another version\n` })).toEqual(all);
    expect(write({ [packaged]: text, [place]: 'of before' })).toEqual(all);
  });

  it.each<[string, string[]]>([
    [
      'p2p-update-advance.path',
      [
        'PathChanged=/var/lib/p2p-update/state/announcements',
        'PathChanged=/var/lib/p2p-update/state/pending',
        'PathChanged=/var/lib/p2p-update/state/reseeds',
        'PathChanged=/var/lib/p2p-update/state/joined',
        'PathChanged=/var/lib/p2p-update/apply/complete',
        'PathChanged=/var/lib/p2p-update/apply/keysets',
        'TriggerLimitIntervalSec=0',
      ],
    ],
    [
      'p2p-update-apply.path',
      ['PathChanged=/var/lib/p2p-update/apply/complete', 'TriggerLimitIntervalSec=0'],
    ],
    ['p2p-update-advance.timer', ['OnBootSec=20s', 'OnUnitInactiveSec=1min']],
    ['p2p-update-apply.timer', ['OnBootSec=20s', 'OnUnitInactiveSec=1min']],
    [
      'p2p-update-advance.service',
      [
        'StartLimitIntervalSec=0',
        'Type=oneshot',
        'User=p2p-update',
        `ExecStart=${code}/dist/p2p-update.cjs reconcile --no-wait`,
        'KillMode=control-group',
        'UMask=0077',
        'NoNewPrivileges=yes',
        'ProtectSystem=strict',
        'ReadWritePaths=/var/lib/p2p-update/state /var/lib/p2p-update/apply/complete',
      ],
    ],
    [
      'p2p-update-apply.service',
      [
        'StartLimitIntervalSec=0',
        'Type=oneshot',
        `ExecStart=${code}/dist/p2p-update.cjs apply --no-wait`,
        'TimeoutStartSec=infinity',
        'KillMode=control-group',
        'UMask=0077',
      ],
    ],
    [
      'serf.service.d/p2p-update.conf',
      [
        'User=p2p-update',
        'UMask=0077',
        'StateDirectory=serf',
        'ExecStartPre=',
        // The places that advance may write: the status handler judges them by access(2).
        'ReadWritePaths=/var/lib/p2p-update/state /var/lib/p2p-update/apply/complete',
      ],
    ],
  ])('%s has its required lines', (unit, wanted) => {
    const text = files[join('/etc/systemd/system', unit)] ?? '';
    expect(text.split('\n')).toEqual(expect.arrayContaining(wanted));
    expect(text).not.toMatch(/@[A-Z]+@/);
    // Puppet may have to change anything.
    if (unit === 'p2p-update-apply.service')
      expect(text).not.toMatch(/^(User|Protect|Private|Restrict|NoNew|Capability)/m);
  });

  it("include none of Transmission's, whose unit and NoNewPrivileges stay Debian's", () => {
    expect(Object.keys(files).filter((path) => path.includes('transmission-daemon'))).toEqual([]);
  });
});
