import type { Config } from '../../lib/config.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { listDueRenewals } from '../../lib/submit/renewal.ts';
import { channelsText, describeKeyChange, signableChannels } from '../../lib/trust/key-change.ts';
import { type KeyProposal, missingSigners } from '../../lib/trust/key-proposal.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';
import { print, printJson } from '../cli/output.ts';

/** A key set as --json prints it. */
export function keySetFacts({ rootKeys, releaseKeys, ...others }: KeySet) {
  return {
    ...others,
    rootKeys: rootKeys.map(({ id }) => ({ id })),
    releaseKeys: releaseKeys.map(({ key, channels }) => ({ id: key.id, channels })),
  };
}

/** A key set as a table. */
export function keySetTable(keySet: KeySet): string {
  const { fleet, epoch, rootKeys, rootThreshold, releaseKeys, releaseThreshold } = keySet;
  const rows = [
    ['role', 'id', 'channels'],
    ...rootKeys.map(({ id }) => ['root', id, '-']),
    ...releaseKeys.map(({ key, channels }) => ['release', key.id, channels?.join(',') ?? '*']),
  ];
  return [
    `fleet              ${fleet}`,
    `epoch              ${epoch}`,
    `root threshold     ${rootThreshold} of ${rootKeys.length}`,
    `release threshold  ${releaseThreshold} of ${releaseKeys.length}`,
    '',
    ...rows.map(
      ([role = '', id = '', channels = '']) => `${role.padEnd(9)}${id.padEnd(18)}${channels}`,
    ),
    '',
  ].join('\n');
}

/**
 * Facts about a proposal, judged by the key set in force.
 *
 * @param config null on a machine that is no node, where no announcements are kept to sign again
 */
export async function proposalFacts(
  proposal: KeyProposal,
  current: KeySet,
  config: Config | null,
  nowSeconds: number,
) {
  const { next, signers, signatures } = proposal;
  const missing = missingSigners(proposal);
  return {
    fleet: next.fleet,
    epoch: next.epoch,
    changes: describeKeyChange(current, next),
    signers,
    signed: [...signatures.keys()].sort(),
    missing,
    complete: missing.length === 0,
    /** Null: all. */
    signableChannels: signableChannels(next),
    /** Null: not known on this machine. */
    renew: config === null ? null : await listDueRenewals(next, config, nowSeconds),
  };
}

type Facts = Awaited<ReturnType<typeof proposalFacts>>;

/**
 * Prints a proposal as lines that end with `outcome`, or as JSON.
 *
 * @param file of the proposal; in the JSON of a dry run it is null
 */
export function printProposal(
  facts: Facts,
  file: string,
  { dryRun, json, outcome }: { dryRun: boolean; json: boolean; outcome: string },
): void {
  if (json) printJson({ ...facts, file: dryRun ? null : file });
  else print(`${proposalText(facts, file)}${outcome}\n`);
}

/** A proposal as lines: its changes, its signatures so far, and the next command. */
export function proposalText(facts: Facts, file: string | null): string {
  const { fleet, epoch, changes, signed, missing, complete } = facts;
  const where = file ?? 'PROPOSAL';
  const lines = [
    `key set ${epoch - 1} -> ${epoch} of fleet ${fleet}`,
    ...changes.map((change) => `  ${change}`),
    ...warnings(facts),
    row('signed by', signed.length === 0 ? 'no key yet' : signed.join(', ')),
  ];
  if (!complete) {
    lines.push(row('to sign', missing.join(', ')));
    lines.push(
      row(
        'next',
        `their holders: ${commandHint('keys', 'countersign', where, '--root-key', 'FILE')}`,
      ),
    );
  } else lines.push(row('next', `on a node that submits: ${commandHint('keys', 'send', where)}`));
  return `${[...lines, ...renewalLines(facts)].join('\n')}\n`;
}

/** Warning of channels left without enough keys, as by a limited key and a higher threshold. */
function warnings({ signableChannels: channels }: Facts): string[] {
  if (channels === null) return [];
  return [`  so that updates can be signed for ${channelsText(channels)} only`];
}

/** Commands that sign again the updates of a removed key; no lines where no release key is removed. */
function renewalLines({ epoch, changes, renew }: Facts): string[] {
  const isRemoval = changes.some((change) => change.startsWith('removes release key'));
  if (!isRemoval && (renew === null || renew.length === 0)) return [];
  return [
    '',
    `Nodes with key set ${epoch} refuse updates of signers that it does not allow. Sign them again, with`,
    'keys that stay, once it is in force on the node that submits:',
    ...(renew !== null && renew.length > 1
      ? [`  ${commandHint('submit', '--renew', '--all')}`, 'that is:']
      : []),
    ...(renew ?? []).map(({ command }) => `  ${command}`),
    ...(renew === null ? [`  ${commandHint('submit', '--renew', 'CHANNEL@VERSION')}`] : []),
    ...(renew?.length === 0 ? ['  none of those that are kept here'] : []),
    'Other operators do the same, on their own nodes, for the updates that they submitted.',
  ];
}

function row(label: string, value: string): string {
  return `${label.padEnd(12)}${value}`;
}
