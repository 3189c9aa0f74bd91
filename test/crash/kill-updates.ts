import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { updateKey, type UpdateId } from '../../lib/announcement/update.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { moduleTarball } from '../support/fleet/module.ts';
import { writeTree } from '../support/run/tree.ts';
import type { Random } from '../fuzz/random.ts';
import { readText } from './read-text.ts';

/** The kinds that are submitted, each on a channel of its own. */
export const updateKinds = ['file', 'manifest', 'module', 'environment'] as const;
export type UpdateKind = (typeof updateKinds)[number];

/** An update to be submitted, which has no version yet. */
export interface Content {
  kind: UpdateKind;
  channel: string;
  path: string;
  /** Of this content alone. */
  tag: string;
  /** Its effect on a node: the text of a file or module; a manifest notes its tag. */
  effect: string;
}

/** An update that was submitted. */
export interface SentUpdate extends UpdateId {
  content: Content;
  payload: string;
  infoHash: string;
}

/**
 * Command of the manifests. It notes each run in a line, and in it whether the update had a durable
 * APPLIED by then, which must never happen.
 */
const counter = `#!/bin/sh
# count.sh TAG CHANNEL VERSION CONFDIR
node=\${4%/puppet/conf}
key=$2@$(printf %016d "$3")
again=
if grep -qs '"state":"APPLIED"' "$node/apply/outcomes/$key"; then again=' again'; fi
echo "$key $1$again" >>"$node/applied.log"
`;

const counted = (script: string, tag: string): string => `exec { 'count':
  command => ['/bin/sh', '${script}', '${tag}', $facts['p2p_update_channel'], $facts['p2p_update_version'], $settings::confdir],
}
`;

/** Writes the content of one update below `directory`. */
export function makeContent(
  directory: string,
  kind: UpdateKind,
  tag: string,
  random: Random,
): Content {
  const script = join(directory, 'count.sh');
  writeFileSync(script, counter);
  const at = (name: string): string => join(directory, name);
  switch (kind) {
    case 'file': {
      const path = at('delivered.bin');
      const effect = `${tag}\n${random.bytes(random.between(1, 50_000)).toString('hex')}`;
      writeFileSync(path, effect);
      return { kind, channel: 'files', path, tag, effect };
    }
    case 'manifest': {
      const path = at('site.pp');
      writeFileSync(path, counted(script, tag));
      return { kind, channel: 'site', path, tag, effect: tag };
    }
    case 'module':
      return { kind, channel: 'acme-hello', path: moduleTarball(directory, tag), tag, effect: tag };
    case 'environment': {
      const path = at(`environment-${tag}`);
      writeTree(path, { 'manifests/site.pp': counted(script, tag) });
      return { kind, channel: 'environment', path, tag, effect: tag };
    }
  }
}

/** Effect of a kind on a node at this moment; undefined when there is none. */
export function effectOn({ config }: FleetNode, kind: 'file' | 'module'): string | undefined {
  if (kind === 'file') return readText(join(config.deliveryDir, 'delivered.bin'));
  const manifest = readText(join(config.puppet.moduleDir, 'hello', 'manifests', 'init.pp'));
  return manifest === undefined ? undefined : /content => '(.*)'/.exec(manifest)?.[1];
}

/** One run of a manifest or an environment on a node, as the manifest itself has noted it. */
export interface CountedRun {
  key: string;
  tag: string;
  /** The update had a durable APPLIED when it ran. */
  isAgain: boolean;
}

export function countedRuns(node: FleetNode): CountedRun[] {
  const lines = readText(join(node.directory, 'applied.log'))?.split('\n') ?? [];
  // A power cut can leave a file with zeros in the place of its text.
  const whole = lines.filter((line) => /^[^\0 ]+ [^\0]+$/.test(line));
  return whole.map((line) => {
    const [key = '', tag = '', again] = line.split(' ');
    return { key, tag, isAgain: again !== undefined };
  });
}

/** Whether a node has the effect of an update. */
export function isInEffect(node: FleetNode, update: SentUpdate): boolean {
  const { kind, effect } = update.content;
  if (kind === 'file' || kind === 'module') return effectOn(node, kind) === effect;
  return countedRuns(node).some((run) => run.key === updateKey(update) && run.tag === effect);
}

/** Selects the newest update of each channel. */
export function newestOf(sent: readonly SentUpdate[]): SentUpdate[] {
  const newest = new Map<string, SentUpdate>();
  for (const update of sent) {
    const held = newest.get(update.channel);
    if (held === undefined || held.version < update.version) newest.set(update.channel, update);
  }
  return [...newest.values()];
}
