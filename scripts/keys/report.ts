import type { Config } from '../../lib/config.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { listDueRenewals } from '../../lib/submit/renewal.ts';
import { channelsText, describeKeyChange, signableChannels } from '../../lib/trust/key-change.ts';
import { type KeyProposal, missingSigners } from '../../lib/trust/key-proposal.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';

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

/** What is told of a proposal. `config` is null on a machine that is no node. */
export function proposalFacts(
  proposal: KeyProposal,
  current: KeySet,
  config: Config | null,
  now: number,
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
    renew: config === null ? null : listDueRenewals(next, config, now),
  };
}

type Facts = ReturnType<typeof proposalFacts>;

/** What a proposal changes, who has signed it, and who signs next. */
export function proposalText(facts: Facts, file: string | null): string {
  const { fleet, epoch, changes, signed, missing, complete } = facts;
  const where = file ?? 'PROPOSAL';
  const lines = [
    `key set ${epoch - 1} -> ${epoch} of fleet ${fleet}`,
    ...changes.map((change) => `  ${change}`),
    ...warnings(facts),
    row('signed by', signed.length === 0 ? 'nobody yet' : signed.join(', ')),
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

/** Other channels are shut: easily done by adding a limited key and raising the threshold. */
function warnings({ signableChannels: channels }: Facts): string[] {
  if (channels === null) return [];
  return [`  so that updates can be signed for ${channelsText(channels)} only`];
}

/** What a removed key leaves to be done; no lines where nobody's trust ends. */
function renewalLines({ epoch, changes, renew }: Facts): string[] {
  const isRemoval = changes.some((change) => change.startsWith('removes release key'));
  if (!isRemoval && (renew === null || renew.length === 0)) return [];
  return [
    '',
    `Nodes with key set ${epoch} refuse what it does not let its signers sign. Such updates must be`,
    'signed again, by keys that stay, once it is in force on the node that submits:',
    ...(renew ?? []).map(({ command }) => `  ${command}`),
    ...(renew === null ? [`  ${commandHint('submit', '--renew', 'CHANNEL@VERSION')}`] : []),
    ...(renew?.length === 0 ? ['  none of those that are kept here'] : []),
    'What other operators submitted, they sign again on their own nodes.',
  ];
}

function row(label: string, value: string): string {
  return `${label.padEnd(12)}${value}`;
}
