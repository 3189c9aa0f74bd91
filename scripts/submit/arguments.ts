import { checkTarget } from '../../lib/announcement/target.ts';
import { type ContentKind, contentKinds } from '../../lib/announcement/fields.ts';
import { parseUpdateRef, type UpdateRef } from '../../lib/announcement/update.ts';
import { UpdateError } from '../../lib/errors.ts';
import type { RenewRequest } from '../../lib/submit/renewal.ts';
import type { SubmitRequest } from '../../lib/submit/submission.ts';
import type { WithdrawRequest } from '../../lib/submit/withdrawal.ts';
import { asciiOnly } from '../../lib/system/printable.ts';
import { commandLine } from '../cli/command-line.ts';
import { parseMoment, parseSpan } from '../cli/time.ts';
import { changeOptions, type ChangeValues } from '../keys/arguments.ts';

export const help = `Usage: p2p-update submit FILE|DIRECTORY [options]
       p2p-update submit --withdraw CHANNEL[@VERSION] [--target EXPR]
       p2p-update submit --renew [CHANNEL[@VERSION]] [--expires SPAN] [--target EXPR]
       p2p-update submit --renew --all [--expires SPAN]
       p2p-update submit --resend [CHANNEL[@VERSION]]
       p2p-update submit KEY.pub --root-key FILE [options of keys add]
       each with --wait [--timeout SPAN]

Announces an update to the fleet and seeds it from this node.
  *.pp                          a manifest: puppet apply
  AUTHOR-NAME-VERSION.tar.gz    as its metadata.json says, a module: puppet module install
  a directory with manifests/   an environment: modules/, hiera.yaml, data/, environment.conf
  a public key in PEM           added to the release keys; keys --help has its options
  anything without Puppet code  a file, placed in "deliveryDir" of every node
What is not that plain, such as a .zip or another .tar.gz with Puppet code in it, needs --kind.

Options:
  --kind KIND         manifest, module, environment or file: take it for that. A module may be a
                      directory or any archive, an environment a .zip or .tar.gz as well
  --channel NAME      updates of one channel supersede each other (default: a module's own
                      name, "default" for everything else)
  --name NAME         the announced name (default: the file's)
  --target EXPR       the nodes that apply it: role=web|db,!canary=true or share=10%
                      (default: all; --renew: as before, and '' is all)
  --noop              a manifest or an environment: nodes change nothing and report what Puppet
                      would change; waits up to two minutes, and lists that for each node
  --wait              wait until every target node has applied it; else name the nodes and why
  --timeout SPAN      the longest wait: 30s, 1h (default: 10m, for --noop alone 2m)
  --version N         above the newest of the channel (default: unix seconds, or newest + 1)
  --expires SPAN      not applied later than that: 90d, 12h, 1y (default: 1y)
  --not-before TIME   downloaded at once, applied then: 2030-01-31T06:00Z or +2h
  --rerun             apply even content that the channel has applied already
  --withdraw CHANNEL  an emergency stop: nodes that have not applied the channel's current
                      update do not apply it any more; needs no Transmission; CHANNEL@VERSION
                      stops it only while that is the current one
  --renew             sign a kept announcement again, with a new version and today's keys;
                      applied content is not run again (default: the newest with content)
  --all               with --renew: every update that is in effect and was submitted here,
                      and withdrawals whose keys were removed
  --resend            send a kept announcement again, byte for byte (default: the newest)
  --force             sign and send although this machine's clock is not the fleet's, or no
                      node that answers is a target
  --dry-run           print what would be sent; change nothing
  --json              one JSON object on the last line of standard output
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names.

Exit status: 0 sent, and with --wait applied by all, or with a --not-before that is later than its
--timeout, there on all; with --wait 1 failed on some node, 75 not yet applied by all, or a node does
not answer; 64 usage, 65 content that its name does not fit, or a bad
target, 69 Puppet, Transmission or Serf is down (the announcement is kept: --resend), 75 the disk
failed, a clock before the build, or this node has not taken it (kept as well), 76 refused, 77 not
trusted, 78 configuration.
`;

export const renewHelp = `Usage: p2p-update renew [CHANNEL[@VERSION]] [options]
       p2p-update renew --all [options]

Signs a kept announcement again, with a new version and today's keys: the newest of CHANNEL, the one
that is named, or the newest of all. It is submit --renew, and takes its options.

  --all           every update that is in effect and was submitted here
  --target EXPR   the nodes that apply it (default: as before, and '' is all)
  --expires SPAN  not applied later than that (default: 1y)
  --wait          wait until every target node has applied it
  --dry-run       print what would be sent; change nothing
  --help

Exit status: as of submit.
`;

export const withdrawHelp = `Usage: p2p-update withdraw CHANNEL[@VERSION] [options]

An emergency stop: nodes that have not applied the current update of CHANNEL do not apply it any more.
With VERSION it is refused unless that is the current one. It is submit --withdraw, and takes its
options.

  --target EXPR   the nodes that stop (default: all)
  --wait          wait until every target node has stopped
  --dry-run       print what would be sent; change nothing
  --help

Exit status: as of submit.
`;

const { parse, usage } = commandLine('submit');

const defaultExpiry = '1y';
const defaultWait = '10m';
/** Time for a download by magnet and three short tries of Puppet, with a margin. */
const defaultTrial = '2m';

/** The wait for the outcome in the fleet. */
export interface WaitOptions {
  /** The longest wait. */
  seconds: number;
  /** Whether the exit status tells the outcome; false for --noop alone, whose report is enough. */
  failOnTimeout: boolean;
}

export interface SendOptions {
  /** Time of the command, read once: what it signs has one time. */
  nowSeconds: number;
  dryRun: boolean;
  json: boolean;
  /** The operator vouches for what the fleet contradicts. */
  force: boolean;
  /** Null: no wait. */
  wait: WaitOptions | null;
}

export type Command =
  | ({ kind: 'resend'; ref: UpdateRef | undefined } & SendOptions)
  | ({ kind: 'withdraw'; request: WithdrawRequest } & SendOptions)
  | ({ kind: 'renew'; request: RenewRequest } & SendOptions)
  | ({ kind: 'renew all'; expires: number } & SendOptions)
  | ({ kind: 'submit'; request: SubmitRequest; keys: ChangeValues; given: string[] } & SendOptions);

/** Options of a public key, which no update takes, and of an update, which no public key takes. */
export const keyOptions: readonly string[] = Object.keys(changeOptions);
export const updateOptions: readonly string[] = [
  ...['channel', 'name', 'kind', 'target', 'noop', 'version', 'expires', 'not-before', 'rerun'],
];

/** The command whose arguments they are: `renew` and `withdraw` are submit with the option of that name. */
export type Mode = 'submit' | 'renew' | 'withdraw';

/**
 * Decides what the arguments ask for; undefined is help.
 *
 * @throws UpdateError `usage`, and `malformed` for a target that breaks its grammar
 */
export function parseCommand(
  args: string[],
  nowSeconds: number,
  mode: Mode = 'submit',
): Command | undefined {
  const { values, positionals } = parseOptions(args);
  const [first, ...more] = positionals;
  if (values.help === true) return undefined;
  if (more.length > 0) throw usage(`one file at a time, not ${positionals.length}`);
  const dryRun = values['dry-run'] ?? false;
  const wait = parseWaitOptions(values, nowSeconds);
  const { json = false, force = false } = values;
  const common = { dryRun, json, force, wait, nowSeconds };
  const given = Object.keys(values);
  const target = values.target === undefined ? undefined : parseTarget(values.target);
  const version = values.version === undefined ? undefined : parseVersion(values.version);
  const expires = nowSeconds + parseSpan(values.expires ?? defaultExpiry);

  if (values.resend === true) {
    refuseOthers('--resend', given, []);
    return { kind: 'resend', ref: parseRef(first), ...common };
  }
  const isRenewal = mode === 'renew' || values.renew === true;
  if (isRenewal && values.all === true) {
    refuseOthers('--renew', given, ['all', 'expires']);
    if (first !== undefined) throw usage('--all takes no update, it is for every one');
    return { kind: 'renew all', expires, ...common };
  }
  if (values.all === true) throw usage('--all has no meaning without --renew');
  if (isRenewal) {
    refuseOthers('--renew', given, ['target', 'expires', 'version']);
    const request = { ref: parseRef(first), target, expires, version };
    return { kind: 'renew', request, ...common };
  }
  if (mode === 'withdraw' || values.withdraw !== undefined) {
    refuseOthers('--withdraw', given, ['target', 'expires', 'version']);
    const [stopped, ...others] = [values.withdraw ?? [], positionals].flat();
    if (stopped === undefined) throw usage('no channel is named');
    if (others.length > 0) throw usage('--withdraw takes a channel, and no file');
    // A malformed channel is refused like that of an update.
    const named = parseUpdateRef(stopped) ?? { channel: stopped, version: null };
    const { channel, version: withdraws } = named;
    const stop = { channel, withdraws: withdraws ?? undefined };
    const request = { ...stop, target: target ?? '', expires, version };
    return { kind: 'withdraw', request, ...common };
  }
  if (first === undefined) throw usage('no file is named');
  const notBefore = values['not-before'];
  const request: SubmitRequest = {
    file: first,
    words: args,
    kind: values.kind === undefined ? undefined : parseKind(values.kind),
    channel: values.channel,
    name: values.name,
    version,
    notBefore: notBefore === undefined ? 0 : parseMoment(notBefore, nowSeconds),
    expires,
    rerun: values.rerun ?? false,
    noop: values.noop ?? false,
    target: target ?? '',
  };
  return { kind: 'submit', request, keys: values, given, ...common };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    allowPositionals: true,
    options: {
      channel: { type: 'string' },
      name: { type: 'string' },
      kind: { type: 'string' },
      target: { type: 'string' },
      noop: { type: 'boolean' },
      version: { type: 'string' },
      expires: { type: 'string' },
      'not-before': { type: 'string' },
      rerun: { type: 'boolean' },
      withdraw: { type: 'string' },
      renew: { type: 'boolean' },
      all: { type: 'boolean' },
      resend: { type: 'boolean' },
      wait: { type: 'boolean' },
      timeout: { type: 'string' },
      force: { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      ...changeOptions,
    },
  });
}

function parseWaitOptions(
  values: ReturnType<typeof parseOptions>['values'],
  nowSeconds: number,
): WaitOptions | null {
  const { wait = false, timeout, noop = false, 'not-before': notBefore } = values;
  if (!wait && timeout !== undefined && !noop)
    throw usage('--timeout has no meaning without --wait');
  if (values['dry-run'] === true) {
    if (wait) throw usage('--wait has no meaning with --dry-run');
    return null;
  }
  const waitsFor = notBefore === undefined ? 0 : parseMoment(notBefore, nowSeconds) - nowSeconds;
  if (!wait) {
    const seconds = parseSpan(timeout ?? defaultTrial);
    return noop && waitsFor <= 0 ? { seconds, failOnTimeout: false } : null;
  }
  const seconds = parseSpan(timeout ?? defaultWait);
  return { seconds, failOnTimeout: true };
}

function refuseOthers(mode: string, given: readonly string[], allowed: readonly string[]): void {
  const fitting = [...allowed, mode.slice(2), 'force', 'dry-run', 'json', 'wait', 'timeout'];
  const other = given.find((option) => !fitting.includes(option));
  if (other !== undefined) throw usage(`--${other} has no meaning with ${mode}`);
}

function parseRef(text: string | undefined): UpdateRef | undefined {
  if (text === undefined) return undefined;
  const ref = parseUpdateRef(text);
  if (ref === undefined)
    throw usage(`${JSON.stringify(text)} is neither a channel nor CHANNEL@VERSION`);
  return ref;
}

/** Checks the grammar of a target; the error points at the column. */
function parseTarget(text: string): string {
  try {
    checkTarget(text);
    return text;
  } catch (cause) {
    if (!(cause instanceof UpdateError)) throw cause;
    throw new UpdateError(cause.code, pointAtColumn(text, cause), { hint: cause.hint });
  }
}

function parseKind(text: string): ContentKind {
  const kind = contentKinds.find((known) => known === text);
  if (kind !== undefined) return kind;
  throw usage(`--kind is one of ${contentKinds.join(', ')}, not ${JSON.stringify(text)}`);
}

function parseVersion(text: string): number {
  const version = Number(text);
  if (!/^\d+$/.test(text) || version < 1 || !Number.isSafeInteger(version))
    throw usage(`--version must be a whole number from 1 to 2^53-1, not ${JSON.stringify(text)}`);
  return version;
}

/** The message of an error, with the target below it and a caret under the column that it names. */
function pointAtColumn(target: string, { message }: UpdateError): string {
  const column = Number(/\bcolumn (\d+)/.exec(message)?.[1]);
  if (!Number.isInteger(column)) return message;
  // asciiOnly keeps every character in its column, and hides those that a terminal obeys.
  return `${message}\n  ${asciiOnly(target)}\n  ${' '.repeat(column - 1)}^`;
}
