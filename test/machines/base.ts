import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../support/run/command.ts';
import { CannotBeMade } from './cannot-be-made.ts';
import type { Lab, Places } from './lab.ts';

export type Release = '12' | '13';
export const suites: Record<Release, string> = { 12: 'bookworm', 13: 'trixie' };

/** A small Debian that boots. */
const bare = ['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'procps', 'ca-certificates'];
/** Dependencies of the package, and a library that tells a program another time. */
const dependencies = ['nodejs', 'serf', 'transmission-daemon', 'puppet-agent', 'passwd'];
const others = ['libfaketime', 'netcat-openbsd'];
/** Units that start by the clock of the machine that runs the test, or need a terminal. */
const masked = [
  ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'fstrim.timer'],
  ...['console-getty.service', 'getty@tty1.service', 'e2scrub_all.timer'],
];
const withRecommends = ['--yes', '--option', 'APT::Install-Recommends=true'];
const bareTimeoutMs = 900_000;
const installTimeoutMs = 600_000;

/** Text that a finished part has: a part that was cut off, or was made for other packages, is made again. */
const recipe = JSON.stringify({ bare, dependencies, others, masked });

/** Where the parts of a base are. */
export function basePlaces(directory: string): Pick<Places, 'bare' | 'installed'> {
  return { bare: join(directory, 'bare'), installed: join(directory, 'installed', 'upper') };
}

/**
 * Makes a Debian in a directory, with the packages of p2p-update's dependencies downloaded and not installed.
 *
 * @throws CannotBeMade with the reason
 */
export async function makeBare(release: Release, directory: string): Promise<void> {
  const { bare: root } = basePlaces(directory);
  if (isFinished(directory, 'bare')) return;
  rmSync(root, { recursive: true, force: true });
  rmSync(join(directory, 'installed'), { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const download = ['apt-get', ...withRecommends, '--download-only', 'install', ...dependencies];
  const { status, stderr } = await run(
    [
      ...['mmdebstrap', '--variant=apt', `--include=${bare.join(',')}`, '--skip=cleanup/apt'],
      `--customize-hook=chroot "$1" ${[...download, ...others].join(' ')}`,
      `--customize-hook=chroot "$1" systemctl mask ${masked.join(' ')}`,
      // Logs of earlier boots stay.
      '--customize-hook=mkdir -p "$1/var/log/journal"',
      ...[suites[release], root, await packageSource()],
    ],
    { timeoutMs: bareTimeoutMs },
  );
  if (status !== 0) {
    const end = stderr.trim().split('\n').slice(-10).join('\n');
    throw new CannotBeMade(`mmdebstrap could not make Debian ${release}:\n${end}`);
  }
  finish(directory, 'bare');
}

/** Installs the dependencies on a machine that has booted, and keeps what that has written. */
export async function makeInstalled(lab: Lab, directory: string): Promise<void> {
  if (isFinished(directory, 'installed')) return;
  rmSync(join(directory, 'installed'), { recursive: true, force: true });
  const builder = lab.make('installed', { lower: [lab.bare], directory });
  await builder.boot();
  await builder.mustRun(['apt-get', ...withRecommends, 'install', ...dependencies, ...others], {
    timeoutMs: installTimeoutMs,
  });
  // Each machine makes logs and keys of its own.
  await builder.mustRun(['sh', '-c', 'rm -rf /var/log/journal/*']);
  await builder.shutDown();
  finish(directory, 'installed');
}

/** The first package source of this machine that has Debian itself. */
async function packageSource(): Promise<string> {
  const format = ['--format', '$(SITE) $(COMPONENT)', 'Created-By: Packages'];
  const { stdout } = await run(['apt-get', 'indextargets', ...format]);
  const source = / main$/m.exec(stdout) && /^(\S+) main$/m.exec(stdout)?.[1];
  if (source === undefined || source === null)
    throw new CannotBeMade('this machine has no package source: set one up in /etc/apt');
  return source;
}

function isFinished(directory: string, part: string): boolean {
  const file = join(directory, `${part}.json`);
  return existsSync(file) && readFileSync(file, 'utf8') === recipe;
}

function finish(directory: string, part: string): void {
  writeFileSync(join(directory, `${part}.json`), recipe);
}
