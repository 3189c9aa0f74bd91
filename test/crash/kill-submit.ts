import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { build } from 'esbuild';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { repository } from '../support/run/repository.ts';
import type { Content, SentUpdate } from './kill-updates.ts';

const attempts = 20;
const pauseMs = 500;

/** scripts/submit.ts as one file: it starts in a third of the time that tsx takes. */
export async function bundleSubmit(directory: string): Promise<string> {
  const outfile = join(mkdtempSync(join(directory, 'submit-')), 'submit.cjs');
  await build({
    entryPoints: [join(repository, 'scripts', 'submit.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    define: { 'import.meta.dirname': '__dirname' },
    logLevel: 'error',
  });
  return outfile;
}

/**
 * Submits as an operator does, who sends again what was not sent because a daemon was down.
 *
 * @param submit the file that {@link bundleSubmit} made
 */
export async function submitUpdate(
  operator: FleetNode,
  submit: string,
  content: Content,
): Promise<SentUpdate> {
  const run = (args: readonly string[]) =>
    operator.run([process.execPath, submit, '--json', ...args]);
  let args = ['--channel', content.channel, content.path];
  for (let attempt = 1; ; attempt += 1) {
    const { status, stdout, stderr } = await run(args);
    if (status === 0) {
      const last = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as SentUpdate;
      const { channel, version, payload, infoHash } = last;
      return { channel, version, payload, infoHash, content };
    }
    if (attempt === attempts) throw new Error(`submit ${args.join(' ')}: ${stderr}`);
    const kept = /--resend (\S+@\d+)/.exec(stderr)?.[1];
    if (kept !== undefined) args = ['--resend', kept];
    await delay(pauseMs);
  }
}

/** Sends an announcement once more, byte for byte. */
export async function resend(
  operator: FleetNode,
  submit: string,
  { channel, version }: SentUpdate,
): Promise<void> {
  const { status, stderr } = await operator.run([
    process.execPath,
    submit,
    '--resend',
    `${channel}@${version}`,
  ]);
  if (status !== 0) throw new Error(`submit --resend: ${stderr}`);
}
