import { setTimeout as delay } from 'node:timers/promises';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import type { Content, SentUpdate } from './kill-updates.ts';

const attempts = 20;
const pauseMs = 500;

/** Submits as an operator does, who sends again what was not sent because a daemon was down. */
export async function submitUpdate(operator: FleetNode, content: Content): Promise<SentUpdate> {
  const run = (args: readonly string[]) => operator.script('submit', ['--json', ...args]);
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
export async function resend(operator: FleetNode, { channel, version }: SentUpdate): Promise<void> {
  const { status, stderr } = await operator.script('submit', ['--resend', `${channel}@${version}`]);
  if (status !== 0) throw new Error(`submit --resend: ${stderr}`);
}
