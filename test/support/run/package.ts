import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { copySources } from './copy.ts';
import { repository } from './repository.ts';

/** Time of the sources, in unix seconds, that packages of tests have. */
export const packageTime = 1_795_000_001;

interface Build {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Copies all that the package is made of into a directory to be made. */
export function copyPackageSources(tree: string): void {
  mkdirSync(dirname(tree), { recursive: true });
  copySources(tree);
  for (const each of ['docs', 'serf.json', 'CHANGELOG.md'])
    cpSync(join(repository, each), join(tree, each), { recursive: true });
}

/** Runs the packager as npm does, in a copy of the tree. */
export async function makePackage(
  tree: string,
  { umask = '022', env = {}, args = [] as string[] } = {},
): Promise<Build> {
  const script = `umask ${umask}; exec "$0" scripts/package/start.mjs "$@"`;
  const child = spawn('sh', ['-c', script, process.execPath, ...args], {
    cwd: tree,
    env: { PATH: process.env['PATH'], SOURCE_DATE_EPOCH: String(packageTime), ...env },
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  if (child.exitCode === null) await once(child, 'exit');
  return { status: child.exitCode, stdout, stderr };
}
