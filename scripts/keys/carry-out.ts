import { type Config, loadConfig } from '../../lib/config.ts';
import { UpdateError, describeError } from '../../lib/errors.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { readProposalFile } from '../../lib/trust/key-proposal-file.ts';
import { missingSigners, parseProposal } from '../../lib/trust/key-proposal.ts';
import { formatKeySet, parseKeySet, type KeySet } from '../../lib/trust/key-set.ts';
import type { Command } from './arguments.ts';
import {
  countersign,
  proposalFile,
  proposeChange,
  readText,
  updateProposal,
  writeProposal,
} from './change.ts';
import { keySetFacts, keySetTable, printProposal, proposalFacts, proposalText } from './report.ts';
import { checkSendable, sendProposal } from './send.ts';
import { describeAnnouncement, report } from '../submit/report.ts';
import { print, printJson } from '../cli/output.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { nowSeconds } from '../cli/time.ts';

const notWritten = 'dry run: nothing was written';

type Of<K extends Command['kind']> = Extract<Command, { kind: K }>;

/**
 * The key set in force: this node's, or on a machine that is none the one that --keyset names.
 *
 * @param load anybody may see the keys; all else is for operators
 */
function loadTrust(
  keySetFile: string | undefined,
  load = loadOperatorConfig,
): { current: KeySet; config: Config | null } {
  if (keySetFile !== undefined) return { current: parseKeySet(readText(keySetFile)), config: null };
  const config = load(process.env);
  return { current: currentKeySet(config), config };
}

async function list({ file, text, json, keySetFile }: Of<'list'>): Promise<void> {
  const { keySet, proposal } = await readListed(file, keySetFile);
  if (text) print(formatKeySet(keySet));
  else if (json) printJson({ ...keySetFacts(keySet), proposal });
  else {
    const state = proposal === null ? '' : `\n${proposalText(proposal, file ?? null)}`;
    print(keySetTable(keySet) + state);
  }
}

/** Reads the key set to show, and for a proposal its signatures so far, by the key set in force. */
async function readListed(file: string | undefined, keySetFile: string | undefined) {
  if (file === undefined)
    return { keySet: loadTrust(keySetFile, loadConfig).current, proposal: null };
  const content = readText(file);
  if (content.startsWith('p2p-update key set'))
    return { keySet: parseKeySet(content), proposal: null };
  const keySet = parseKeySet(readProposalFile(content).text);
  try {
    const { current, config } = loadTrust(keySetFile);
    const proposal = parseProposal(content, current);
    return { keySet, proposal: await proposalFacts(proposal, current, config, nowSeconds()) };
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    process.stderr.write(`keys: warning: it cannot be signed here: ${describeError(error)}\n`);
    return { keySet, proposal: null };
  }
}

async function change({ request, keySetFile, dryRun, json }: Of<'change'>): Promise<void> {
  const { current, config } = loadTrust(keySetFile);
  const proposal = await proposeChange(request, current, nowSeconds());
  const file = proposalFile(proposal, request.out);
  if (!dryRun) writeProposal(file, proposal);
  const facts = await proposalFacts(proposal, current, config, nowSeconds());
  const outcome = dryRun ? notWritten : `written to ${file}`;
  printProposal(facts, file, { dryRun, json, outcome });
}

async function countersignProposal({
  file,
  rootKeyFiles,
  keySetFile,
  dryRun,
  json,
}: Of<'countersign'>): Promise<void> {
  const { current, config } = loadTrust(keySetFile);
  const before = parseProposal(readText(file), current);
  const after = countersign(before, rootKeyFiles, current);
  const isNew = missingSigners(after).length < missingSigners(before).length;
  if (!dryRun && isNew) updateProposal(file, after);
  const facts = await proposalFacts(after, current, config, nowSeconds());
  const signed = isNew ? `signed: ${file}` : 'it had this signature already';
  printProposal(facts, file, { dryRun, json, outcome: dryRun ? notWritten : signed });
}

async function send({ file, dryRun, json }: Of<'send'>): Promise<void> {
  const config = loadOperatorConfig(process.env);
  const current = currentKeySet(config);
  const proposal = parseProposal(readText(file), current);
  const { payload, sent } = dryRun
    ? { payload: checkSendable(proposal, current, config, nowSeconds()), sent: null }
    : await sendProposal(proposal, current, config, nowSeconds());
  report(describeAnnouncement(payload, config), sent, json);
}

/**
 * Shows and changes the keys that may sign for the fleet: one operator prepares the next key set, others
 * countersign it with their root keys, and a node that submits sends it.
 *
 * @throws UpdateError as the exit statuses of the help text list
 */
export async function carryOut(command: Command): Promise<void> {
  switch (command.kind) {
    case 'list':
      await list(command);
      return;
    case 'change':
      await change(command);
      return;
    case 'countersign':
      await countersignProposal(command);
      return;
    case 'send':
      await send(command);
      return;
    default:
      command satisfies never;
  }
}
