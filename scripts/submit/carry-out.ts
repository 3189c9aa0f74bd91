import { tmpdir } from 'node:os';
import {
  nameOf,
  parseAnnouncement,
  type Update,
  type UpdateRef,
} from '../../lib/announcement/update.ts';
import type { Config } from '../../lib/config.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { describeError, exitStatus, formatError, UpdateError } from '../../lib/errors.ts';
import { askTargets, type TargetedMembers } from '../../lib/query/ask-fleet.ts';
import { describeAbsence, verdictStatuses } from '../../lib/query/judge-fleet.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { requireAcceptable, surveyFleet } from '../../lib/submit/acceptance.ts';
import { listInEffect } from '../../lib/submit/in-effect.ts';
import { readKeyToAdd } from '../../lib/submit/input.ts';
import { askBySerf, type FleetVersions, listKnown } from '../../lib/submit/known-updates.ts';
import { deliver, publishContent, type Sent } from '../../lib/submit/publish.ts';
import { findPublished } from '../../lib/submit/published.ts';
import { prepareRenewal, type RenewRequest } from '../../lib/submit/renewal.ts';
import { prepareSubmission, type Submission } from '../../lib/submit/submission.ts';
import { prepareWithdrawal, type WithdrawRequest } from '../../lib/submit/withdrawal.ts';
import { missingSigners } from '../../lib/trust/key-proposal.ts';
import { progressBar } from '../cli/progress-bar.ts';
import { withDirectoryIn, withWorkDirectory } from '../cli/work-directory.ts';
import { parseChange } from '../keys/arguments.ts';
import { proposalFile, proposeChange, writeProposal } from '../keys/change.ts';
import { printProposal, proposalFacts } from '../keys/report.ts';
import { sendProposal } from '../keys/send.ts';
import {
  type Command,
  keyOptions,
  type SendOptions,
  updateOptions,
  type WaitOptions,
} from './arguments.ts';
import { describeScheduled, explainUnfinished, followUpdate, formatNodes } from './follow.ts';
import { describeAnnouncement, report } from './report.ts';
import { legacyFactsOf } from '../../lib/daemons/puppet/legacy-facts.ts';
import { asciiOnly, printable } from '../../lib/system/printable.ts';
import { kindWords } from '../../lib/announcement/fields.ts';
import { print } from '../cli/output.ts';

/** Nodes that are named; the others are counted. */
const maxNamed = 5;

/** Why a file is taken for its kind, where nobody has said it. */
interface WhyTaken {
  why?: string;
}

type SubmitCommand = Extract<Command, { kind: 'submit' }>;

/** Submits a file: an update, or a public key to add to the release keys. */
async function submitFile(command: SubmitCommand, config: Config): Promise<void> {
  const { request, given } = command;
  // A public key may be meant as a file, but a private one is never sent.
  const isKey = (await readKeyToAdd(request.file)) !== undefined && request.kind === undefined;
  const strange = given.find((option) => (isKey ? updateOptions : keyOptions).includes(option));
  if (strange !== undefined)
    throw new UpdateError(
      'usage',
      `--${strange} has no meaning for ${isKey ? 'a public key' : 'a file that is no public key'}`,
      { hint: commandHint('submit', '--help') },
    );
  if (isKey) {
    await addKey(command, config);
    return;
  }
  // On the file system of the publish directory, so that publishing is a rename.
  const inWork = command.dryRun
    ? withDirectoryIn.bind(null, tmpdir())
    : withWorkDirectory.bind(null, config.publishDir);
  await inWork(async (workDir) => {
    const onProgress = progressBar('hashing');
    const prepared = await prepareSubmission(
      request,
      config,
      workDir,
      command.nowSeconds,
      fleetOf(config, command),
      onProgress,
    );
    for (const { name, replacement } of legacyFactsOf(request.file))
      warn(
        `it uses the legacy fact $${name}, which Puppet 8 does not have: $${replacement} does on both`,
      );
    const { why, announcement } = prepared;
    // With --json it is one of the facts.
    if (why !== undefined && !command.json)
      print(`"${printable(request.file)}" is taken for ${kindWords[announcement.kind]}: ${why}\n`);
    await announce(prepared, config, { ...command, ...(why === undefined ? {} : { why }) });
  });
}

/** Adds a release key, as `keys add` and then `keys send` do. */
async function addKey(
  { request: { file }, keys, ...options }: SubmitCommand,
  config: Config,
): Promise<void> {
  const { dryRun } = options;
  if (keys['root-key'] === undefined)
    throw new UpdateError('usage', `${file} is a public key, which only a root key can add`, {
      hint: 'add --root-key FILE: the private root key, on the medium that holds it',
    });
  const request = parseChange('add', [file], keys);
  const current = currentKeySet(config);
  const proposal = await proposeChange(request, current, options.nowSeconds);
  if (missingSigners(proposal).length === 0 && !dryRun) {
    const { payload, sent } = await sendProposal(proposal, current, config, options.nowSeconds);
    await reportSent(payload, sent, config, null, options);
    return;
  }
  const out = proposalFile(proposal, request.out);
  if (!dryRun) writeProposal(out, proposal);
  const facts = await proposalFacts(proposal, current, config, options.nowSeconds);
  const outcome = dryRun ? 'dry run: nothing was sent' : `written to ${out}`;
  printProposal(facts, out, { ...options, outcome });
}

async function withdraw(
  request: WithdrawRequest,
  config: Config,
  options: SendOptions,
): Promise<void> {
  const prepared = await prepareWithdrawal(
    request,
    config,
    options.nowSeconds,
    fleetOf(config, options),
  );
  if (prepared.withdraws === undefined)
    warn(`no update of channel ${request.channel} is known here; check its name`);
  await announce(prepared, config, options);
}

/** @param older 'stay': an update that the fleet has a newer one of is not signed again */
async function renew(
  request: RenewRequest,
  config: Config,
  options: SendOptions,
  older?: 'stay',
): Promise<void> {
  const prepared = await prepareRenewal(
    request,
    config,
    options.nowSeconds,
    fleetOf(config, options),
    progressBar('hashing'),
  );
  const { renews, newest } = prepared;
  if (older === 'stay' && newest > newestKnown(renews.channel, config))
    throw new UpdateError(
      'refused',
      `the fleet has ${newest} of ${renews.channel}, which is newer`,
      {
        hint: `wait until this node has it: ${commandHint('status', '--channel', renews.channel)}`,
      },
    );
  if (older !== 'stay' && renews.version < newest)
    warn(
      `${nameOf(renews)} is not the newest of its channel, ${newest} is: nodes will go back to its content`,
    );
  await announce(prepared, config, options);
}

/**
 * Signs again whatever is in effect, was submitted here, and may be signed by the keys that are here. One that
 * cannot be does not hold up the others; the exit status is that of the last such error.
 */
async function renewAll(expires: number, config: Config, options: SendOptions): Promise<void> {
  const { nowSeconds } = options;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    await work().catch((error: unknown) => {
      if (!(error instanceof UpdateError)) throw error;
      process.stderr.write(formatError('submit', error));
      process.exitCode = exitStatus(error);
    });
  };
  const inEffect = await listInEffect(config, currentKeySet(config), nowSeconds);
  const due = inEffect.filter(({ kind, isKept, isTrusted }) =>
    kind === 'withdraw' || !isKept ? !isTrusted : true,
  );
  if (due.length === 0) print('nothing that is in effect was submitted here\n');
  for (const { kind, isKept, target, ...id } of due)
    await attempt(async () => {
      const { channel } = id;
      const key = nameOf(id);
      if (!isKept)
        throw new UpdateError('refused', `${key} was submitted on another machine`, {
          hint: `there: ${commandHint('submit', '--renew', key)}`,
        });
      if (!options.json) print(`\n${key}\n`);
      if (kind === 'withdraw') await withdraw({ channel, target, expires }, config, options);
      else await renew({ ref: id, target: undefined, expires }, config, options, 'stay');
    });
}

/** Publishes and sends what was prepared, or shows it. */
async function announce(
  prepared: Submission,
  config: Config,
  options: SendOptions & WhyTaken,
): Promise<void> {
  const targets = await findTargets(prepared.payload, config, options);
  if (options.dryRun) {
    const { why } = options;
    const facts = describeAnnouncement(prepared.payload, config, targets);
    report(why === undefined ? facts : { ...facts, why }, null, options.json);
    return;
  }
  const publish = () => publishContent(prepared, config);
  // Without content of its own there is no work directory yet.
  const published =
    prepared.contentFile === null
      ? await withWorkDirectory(config.publishDir, publish)
      : await publish();
  const sent = await deliver(published, config, true);
  await reportSent(prepared.payload, sent, config, targets, options);
}

async function resend(
  ref: UpdateRef | undefined,
  config: Config,
  options: SendOptions,
): Promise<void> {
  const published = findPublished(config, ref, options.nowSeconds);
  const { announcement } = parseAnnouncement(published.payload).signed;
  const survey = await surveyFleet(
    announcement.channel,
    config,
    fleetOf(config, options),
    options.nowSeconds,
  );
  // Nodes that have something newer say so themselves.
  const newest = Math.min(survey.newest, announcement.version - 1);
  requireAcceptable(announcement, { ...survey, newest }, config, options.nowSeconds);
  const targets = await findTargets(published.payload, config, options);
  if (options.dryRun) {
    report(describeAnnouncement(published.payload, config, targets), null, options.json);
    return;
  }
  const sent = await deliver(published, config, false);
  await reportSent(published.payload, sent, config, targets, options);
}

/** Reports the sent announcement and, with --wait, its outcome in the fleet. */
async function reportSent(
  payload: string,
  sent: Sent,
  config: Config,
  targets: TargetedMembers | null,
  { json, wait, why }: SendOptions & WhyTaken,
): Promise<void> {
  const { update } = parseAnnouncement(payload);
  const described = describeAnnouncement(payload, config, targets);
  const facts = why === undefined ? described : { ...described, why };
  if (!json || wait === null) report(facts, sent, json);
  if (wait === null) return;
  const progress = await follow(update, config, wait, targets).catch((error: unknown) => {
    warn(`it is sent, but the fleet cannot be asked about it: ${describeError(error)}`);
    if (wait.failOnTimeout) process.exitCode = exitStatus(error);
    return null;
  });
  const { verdict = null, nodes = null } = progress ?? {};
  if (json) report({ ...facts, verdict, nodes }, sent, true);
  if (progress === null) return;
  if (!json) print(formatNodes(progress.nodes));
  if (!json && progress.verdict === 'scheduled')
    print(describeScheduled(progress, update.notBefore));
  const unfinished = explainUnfinished(update, progress);
  if (!wait.failOnTimeout || unfinished === undefined) return;
  const { message, hint } = unfinished;
  process.stderr.write(`submit: error: ${message}\nsubmit: hint: ${hint}\n`);
  process.exitCode = verdictStatuses[progress.verdict];
}

/** Follows an update with a bar on a terminal. */
async function follow(
  update: Update,
  config: Config,
  { seconds }: WaitOptions,
  targets: TargetedMembers | null,
) {
  const bar = progressBar(update.noop ? 'noop' : 'applied', { name: 'nodes', size: 1, min: 1 });
  const progress = await followUpdate(
    update,
    connectSerf(config.serf),
    seconds * 1000,
    targets,
    bar,
  );
  // A bar that is not full has not ended its line.
  if (bar !== undefined && /^(pending|scheduled)$/.test(progress.verdict))
    process.stderr.write('\n');
  return progress;
}

/**
 * Asks the nodes which of them an announcement is for; null without a target, or without Serf, whose absence
 * sending reports.
 *
 * @throws UpdateError `refused` when no node that answers is, unless the operator insists
 */
async function findTargets(
  payload: string,
  config: Config,
  { force }: SendOptions,
): Promise<TargetedMembers | null> {
  const { target, channel } = parseAnnouncement(payload).signed.announcement;
  if (target === '') return null;
  const targeted = await askTargets(connectSerf(config.serf), { channel, target }).catch(
    (error: unknown) => {
      if (error instanceof UpdateError) return null;
      throw error;
    },
  );
  if (targeted === null) return null;
  const { matching, others, silent } = targeted;
  const names = silent.slice(0, maxNamed).map(({ name, presence }) => {
    const why = presence === 'alive' ? 'no answer' : describeAbsence(presence);
    return asciiOnly(`${name} (${why})`);
  });
  const more = silent.length > maxNamed ? ` and ${silent.length - maxNamed} more` : '';
  const unknown = `whether it is for ${names.join(', ')}${more} is not known`;
  if (matching.length === 0 && !force) {
    const rest = silent.length === 0 ? '' : `; ${unknown}`;
    throw new UpdateError(
      'refused',
      `${target} matches none of the ${others.length} nodes that answer${rest}`,
      {
        hint: `each node decides by its own "nodeName" and "tags"; their names: ${commandHint('status', '--all')}; --force sends it all the same`,
      },
    );
  }
  if (silent.length > 0) warn(unknown);
  return targeted;
}

/** Asks the fleet for its versions, by Serf. */
function fleetOf({ serf }: Config, { force }: SendOptions): FleetVersions {
  return askBySerf(connectSerf(serf), warn, force);
}

/** The highest version of a channel that is known on this machine. */
function newestKnown(channel: string, config: Config): number {
  const versions = listKnown(config).filter((id) => id.channel === channel);
  return Math.max(0, ...versions.map(({ version }) => version));
}

function warn(message: string): void {
  process.stderr.write(`submit: warning: ${message}\n`);
}

/**
 * Announces an update to the fleet: makes the torrent, signs, seeds, sends the Serf event.
 *
 * @throws UpdateError as the exit statuses of the help text list
 */
export async function carryOut(command: Command, config: Config): Promise<void> {
  switch (command.kind) {
    case 'resend':
      await resend(command.ref, config, command);
      return;
    case 'withdraw':
      await withdraw(command.request, config, command);
      return;
    case 'renew':
      await renew(command.request, config, command);
      return;
    case 'renew all':
      await renewAll(command.expires, config, command);
      return;
    case 'submit':
      await submitFile(command, config);
      return;
    default:
      command satisfies never;
  }
}
