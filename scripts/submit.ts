/**
 * Announces an update to the fleet: makes the torrent, signs, seeds, sends the Serf event.
 */
import { tmpdir } from 'node:os';
import { loadConfig, type Config } from '../lib/config.ts';
import { UpdateError, describeError, exitStatus, formatError } from '../lib/errors.ts';
import { currentKeySet } from '../lib/key-chain.ts';
import { missingSigners } from '../lib/key-proposal.ts';
import { deliver, findPublished, publishContent } from '../lib/publish.ts';
import { prepareRenewal, type RenewRequest } from '../lib/renewal.ts';
import { connectSerf } from '../lib/serf.ts';
import { prepareSubmission, type Submission } from '../lib/submission.ts';
import { readKeyToAdd } from '../lib/submission-input.ts';
import { countTargets } from '../lib/target-members.ts';
import { nameOf, parseAnnouncement } from '../lib/update.ts';
import { prepareWithdrawal, type WithdrawRequest } from '../lib/withdrawal.ts';
import { parseChange } from './keys/arguments.ts';
import { proposalFile, proposeChange, writeProposal } from './keys/change.ts';
import { proposalFacts, proposalText } from './keys/report.ts';
import { sendProposal } from './keys/send.ts';
import { collectNoop, formatNoop } from './noop-report.ts';
import { progressBar } from './progress-bar.ts';
import { help, keyOptions, parseCommand, updateOptions, type Command } from './submit-arguments.ts';
import { describeAnnouncement, report } from './submit-report.ts';
import { withDirectoryIn, withWorkDirectory } from './work-directory.ts';

interface Options {
  dryRun: boolean;
  json: boolean;
}

type SubmitCommand = Extract<Command, { kind: 'submit' }>;

/** A file is an update, or a public key that the fleet is to trust. */
async function submitFile(command: SubmitCommand, config: Config): Promise<void> {
  const { request, given } = command;
  const isKey = (await readKeyToAdd(request.file)) !== undefined;
  const strange = given.find((option) => (isKey ? updateOptions : keyOptions).includes(option));
  if (strange !== undefined)
    throw new UpdateError(
      'usage',
      `--${strange} has no meaning for ${isKey ? 'a public key' : 'a file that is no public key'}`,
      { hint: 'submit.ts --help shows the usage' },
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
    const prepared = await prepareSubmission(request, config, workDir, now(), onProgress);
    await announce(prepared, config, command);
  });
}

/** Adds a release key, as `keys.ts add` and then `keys.ts send` do. */
async function addKey(
  { request: { file }, keys, dryRun, json }: SubmitCommand,
  config: Config,
): Promise<void> {
  if (keys['root-key'] === undefined)
    throw new UpdateError('usage', `${file} is a public key, which only a root key can add`, {
      hint: 'add --root-key FILE: the private root key, on the medium that holds it',
    });
  const request = parseChange('add', [file], keys);
  const current = currentKeySet(config);
  const proposal = await proposeChange(request, current, now());
  if (missingSigners(proposal).length === 0 && !dryRun) {
    const payload = await sendProposal(proposal, current, config);
    report(describeAnnouncement(payload, config), new Date(), json);
    return;
  }
  const out = proposalFile(proposal, request.out);
  if (!dryRun) writeProposal(out, proposal);
  const facts = proposalFacts(proposal, current, config, now());
  if (json) process.stdout.write(`${JSON.stringify({ ...facts, file: dryRun ? null : out })}\n`);
  else
    process.stdout.write(
      `${proposalText(facts, out)}${dryRun ? 'dry run: nothing was sent' : `written to ${out}`}\n`,
    );
}

async function withdraw(request: WithdrawRequest, config: Config, options: Options): Promise<void> {
  const prepared = await prepareWithdrawal(request, config, now());
  if (prepared.withdraws === undefined)
    warn(`no update of channel ${request.channel} is known here; is it spelled so?`);
  await announce(prepared, config, options);
}

async function renew(request: RenewRequest, config: Config, options: Options): Promise<void> {
  const prepared = await prepareRenewal(request, config, now(), progressBar('hashing'));
  const { renews, newest } = prepared;
  if (renews.version < newest)
    warn(
      `${nameOf(renews)} is not the newest of its channel, ${newest} is: nodes will go back to its content`,
    );
  await announce(prepared, config, options);
}

/** Publishes and sends what was prepared, or shows it. */
async function announce(prepared: Submission, config: Config, options: Options): Promise<void> {
  const { dryRun } = options;
  const targets = await askTargets(prepared.payload, config);
  if (!dryRun) {
    const publish = () => publishContent(prepared, config);
    // Without content of its own there is no work directory yet.
    const published =
      prepared.contentFile === null
        ? await withWorkDirectory(config.publishDir, publish)
        : await publish();
    await deliver(published, config);
  }
  const facts = describeAnnouncement(prepared.payload, config, targets);
  const sentAt = new Date();
  if (dryRun || !prepared.announcement.noop || prepared.announcement.notBefore > now()) {
    report(facts, dryRun ? null : sentAt, options.json);
    return;
  }
  // Nothing changes anywhere, so what a noop is for is its report.
  if (!options.json) report(facts, sentAt, false);
  const onProgress = progressBar('noop', { name: 'nodes', size: 1, min: 1 });
  const nodes = await collectNoop(prepared.announcement, config, onProgress).catch(
    (error: unknown) => {
      warn(`it is sent, but the fleet cannot be asked what would change: ${describeError(error)}`);
      return null;
    },
  );
  if (options.json) report({ ...facts, nodes }, sentAt, true);
  else if (nodes !== null) process.stdout.write(formatNoop(nodes));
}

async function resend(key: string | undefined, config: Config, options: Options): Promise<void> {
  const published = findPublished(config, key);
  const targets = await askTargets(published.payload, config);
  if (!options.dryRun) await deliver(published, config);
  const facts = describeAnnouncement(published.payload, config, targets);
  report(facts, options.dryRun ? null : new Date(), options.json);
}

/** How many members an announcement is for, as far as Serf knows; null without a target, or without Serf. */
async function askTargets(payload: string, config: Config) {
  const { target, channel } = parseAnnouncement(payload).signed.announcement;
  if (target === '') return null;
  const { serf } = config;
  const client = connectSerf({ ...serf, timeoutMs: serf.timeoutSeconds * 1000 });
  const targets = await countTargets(target, channel, client);
  if (targets?.matching === 0)
    warn(
      `none of the ${targets.members} members that Serf knows matches ${target}; ` +
        'each node decides by its own "nodeName" and "tags", not by what Serf says',
    );
  return targets;
}

function warn(message: string): void {
  process.stderr.write(`submit: warning: ${message}\n`);
}

/** Unix seconds. */
function now(): number {
  return Math.floor(Date.now() / 1000);
}

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2), now());
  if (command.kind === 'help') {
    process.stdout.write(help);
    return;
  }
  const config = loadConfig(process.env);
  switch (command.kind) {
    case 'resend':
      await resend(command.key, config, command);
      return;
    case 'withdraw':
      await withdraw(command.request, config, command);
      return;
    case 'renew':
      await renew(command.request, config, command);
      return;
    case 'submit':
      await submitFile(command, config);
      return;
    default:
      command satisfies never;
  }
}

main().catch((error: unknown) => {
  process.stderr.write(formatError('submit', error));
  process.exitCode = exitStatus(error);
});
