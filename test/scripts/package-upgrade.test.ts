import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';

const scripts = join(repository, 'scripts/package/debian');

/** The machine as the maintainer scripts see it: apply.path and advance.timer are active. */
const machine = `
record=$PWD/record lock=$PWD/lock cron=$PWD/cron cron_aside=$PWD/cron.aside units=$PWD/units
has_systemd() { [ -e systemd ]; }
systemctl() {
  case "$*" in
    'is-active --quiet p2p-update-apply.path' | 'is-active --quiet p2p-update-advance.timer') ;;
    is-active*) return 1 ;;
    "show --property ActiveState --value $(cat running)") echo activating ;;
    'show --property ActiveState'*) echo inactive ;;
    "show --property Job --value $(cat queued)") echo 17 ;;
    'show --property Job'*) echo ;;
    *) echo "systemctl $*" >>log ;;
  esac
}
# A second later the work has ended.
sleep() { echo "sleep $1" >>log; echo none >running; echo none >queued; exec 9>&-; }
`;

let directory = '';
beforeEach(() => {
  directory = temporaryDirectory();
  for (const name of ['running', 'queued']) put(name, 'none\n');
  for (const name of ['systemd', 'log']) put(name, '');
});
const put = (name: string, text: string): void => {
  writeFileSync(join(directory, name), text);
};
const read = (name: string): string => readFileSync(join(directory, name), 'utf8');

/** The text of a maintainer script with the machine's parts put in, as dpkg calls it. */
function maintainerScript(name: string, argument: string, before = ''): string {
  const text = (file: string): string => readFileSync(join(scripts, file), 'utf8');
  return `set -e\n${text('../../setup/stop.sh')}${machine}${before}\nset -- ${argument}\n${text(name)}`;
}

function run(name: string, argument: string, before = '') {
  const script = maintainerScript(name, argument, before);
  return spawnSync('sh', ['-c', script], { cwd: directory, encoding: 'utf8' });
}

const ended = (stdout: string) => ({ status: 0, stdout, stderr: '' });
const waits = ended('p2p-update: waiting until the update that is at work has been applied\n');

describe('an upgrade of the package', () => {
  it('stops the units that are active and no service, and starts the same ones again', () => {
    expect(run('prerm', 'upgrade 1.1')).toMatchObject(ended(''));
    const stopped =
      'systemctl stop p2p-update-advance.timer\nsystemctl stop p2p-update-apply.path\n';
    expect(read('log')).toBe(stopped);
    put('log', '');
    expect(run('postinst', 'abort-upgrade 1.1')).toMatchObject(ended(''));
    expect(read('log')).toBe(`systemctl daemon-reload\n${stopped.replaceAll('stop', 'start')}`);
    expect(existsSync(join(directory, 'record'))).toBe(false);
  });

  it.each(['running', 'queued'])('waits for a service that is %s', (state) => {
    for (const service of ['p2p-update-advance.service', 'p2p-update-apply.service']) {
      put('log', '');
      put(state, `${service}\n`);
      expect(run('prerm', 'upgrade 1.1')).toMatchObject(waits);
      expect(read('log')).toMatch(/stop p2p-update-apply\.path\nsleep 1\n$/);
    }
  });

  it('waits for an apply that cron or a person has started, and keeps cron from starting another', () => {
    for (const name of ['cron', 'lock']) put(name, '');
    spawnSync('rm', [join(directory, 'systemd')]);
    expect(run('prerm', 'upgrade 1.1', 'exec 9>lock; flock 9')).toMatchObject(waits);
    expect(read('log')).toBe('sleep 1\n');
    expect([existsSync(join(directory, 'cron')), read('cron.aside')]).toEqual([false, '']);
    expect(run('postinst', 'abort-upgrade')).toMatchObject(ended(''));
    expect(read('cron')).toBe('');
  });

  it('does not wait for the update that it is part of, which would wait for it', () => {
    put('lock', '');
    put('script', maintainerScript('prerm', 'upgrade 1.1', 'exec 9>lock; flock 9'));
    put(
      'p2p-update.cjs',
      "require('node:child_process').spawnSync('sh', ['script'], { stdio: 'inherit' });\n",
    );
    const program = join(directory, 'p2p-update.cjs');
    const started = spawnSync(process.execPath, [program, 'apply'], {
      cwd: directory,
      encoding: 'utf8',
    });
    expect(started).toMatchObject(ended(''));
    expect(read('log')).not.toContain('sleep');
  });

  it('remembers, at a removal, which units were enabled', () => {
    const wants = join(directory, 'units', 'timers.target.wants');
    spawnSync('mkdir', ['-p', wants]);
    spawnSync('ln', ['-s', '/elsewhere', join(wants, 'p2p-update-apply.timer')]);
    expect(run('prerm', 'remove')).toMatchObject(ended(''));
    expect(read('record')).toContain('\nenable p2p-update-apply.timer\n');
    put('log', '');
    expect(run('postinst', 'abort-remove')).toMatchObject(ended(''));
    expect(read('log')).toContain('systemctl --quiet enable p2p-update-apply.timer\n');
  });
});
