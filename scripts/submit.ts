/**
 * Announces a file or directory to the fleet: makes the torrent, signs, seeds, sends the Serf event.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadConfig, type Config } from '../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../lib/errors.ts';
import { publishContent, readPublished, sendUpdate, type PublishedUpdate } from '../lib/publish.ts';
import { connectSerf } from '../lib/serf.ts';
import { prepareSubmission, type SubmitRequest } from '../lib/submission.ts';
import { parseMoment, parseSpan } from '../lib/time.ts';
import { stateError } from '../lib/store.ts';
import { connectTransmission } from '../lib/transmission.ts';
import { progressBar } from './progress-bar.ts';
import { describeAnnouncement, report } from './submit-report.ts';

const help = `Usage: submit.ts FILE|DIRECTORY [options]
       submit.ts --resend [CHANNEL@VERSION]

Announces an update to the fleet and seeds it from this node.
  *.pp                          a manifest: puppet apply
  *.tar.gz, *.tgz, *.tar        with metadata.json a module: puppet module install
  a directory, or a .zip        with manifests/ an environment: modules/, hiera.yaml, data/
  anything else                 a file, placed in "deliveryDir" of every node

Options:
  --channel NAME      updates of one channel supersede each other (default: a module's own
                      name, "default" for everything else)
  --name NAME         the announced name (default: the file's)
  --version N         above the newest of the channel (default: unix seconds, or newest + 1)
  --expires SPAN      not applied later than that: 90d, 12h, 1y (default: 1y)
  --not-before TIME   downloaded at once, applied then: 2030-01-31T06:00Z or +2h
  --rerun             apply even content that the channel has applied already
  --dry-run           print what would be sent; change nothing
  --resend            send a kept announcement again, byte for byte (default: the newest)
  --json              one JSON object on the last line of standard output
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names.

Exit status: 0 sent, 64 usage, 65 the content is not what its name says, 69 Puppet, Transmission
or Serf is down (the announcement is kept: --resend), 76 refused, 78 configuration.
`;

const defaultExpiry = '1y';
const workPrefix = '.submit-';

type Command =
  | { kind: 'help' }
  | { kind: 'resend'; key: string | undefined; json: boolean }
  | { kind: 'submit'; request: SubmitRequest; dryRun: boolean; json: boolean };

/** Decides what the arguments ask for. Throws UpdateError `usage`. */
function parseCommand(args: string[], now: number): Command {
  const { values, positionals } = parse(args);
  const json = values.json ?? false;
  const [first, ...more] = positionals;
  if (values.help === true) return { kind: 'help' };
  if (more.length > 0) throw usage(`one file at a time, not ${positionals.length}`);
  if (values.resend === true) return { kind: 'resend', key: first, json };
  if (first === undefined) throw usage('no file is named');
  const notBefore = values['not-before'];
  const request: SubmitRequest = {
    file: first,
    channel: values.channel,
    name: values.name,
    version: values.version === undefined ? undefined : parseVersion(values.version),
    notBefore: notBefore === undefined ? 0 : parseMoment(notBefore, now),
    expires: now + parseSpan(values.expires ?? defaultExpiry),
    rerun: values.rerun ?? false,
  };
  return { kind: 'submit', request, dryRun: values['dry-run'] ?? false, json };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        channel: { type: 'string' },
        name: { type: 'string' },
        version: { type: 'string' },
        expires: { type: 'string' },
        'not-before': { type: 'string' },
        rerun: { type: 'boolean' },
        'dry-run': { type: 'boolean' },
        resend: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (cause) {
    throw usage(cause instanceof Error ? cause.message : String(cause));
  }
}

function parseVersion(text: string): number {
  const version = Number(text);
  if (!/^\d+$/.test(text) || version < 1 || !Number.isSafeInteger(version))
    throw usage(`--version must be a whole number from 1 to 2^53-1, not ${JSON.stringify(text)}`);
  return version;
}

function usage(message: string): UpdateError {
  return new UpdateError('usage', message, { hint: 'submit.ts --help shows the usage' });
}

async function submit(
  request: SubmitRequest,
  config: Config,
  options: { dryRun: boolean; json: boolean },
): Promise<void> {
  // On the file system of the publish directory, so that publishing is a rename.
  if (!options.dryRun) mkdirSync(config.publishDir, { recursive: true, mode: 0o755 });
  const parent = options.dryRun ? tmpdir() : config.publishDir;
  if (!options.dryRun) removeOldWork(parent);
  const workDir = await mkdtemp(join(parent, workPrefix));
  try {
    const now = Math.floor(Date.now() / 1000);
    const onProgress = progressBar('hashing');
    const prepared = await prepareSubmission(request, config, workDir, now, onProgress);
    if (options.dryRun) {
      report(describeAnnouncement(prepared.payload, config), null, options.json);
      return;
    }
    const published = await publishContent(prepared, config);
    await send(published, config, options.json);
  } catch (error) {
    throw stateError(error, parent);
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Removes work directories that a killed submit left a day ago or more: content can be large. */
function removeOldWork(publishDir: string): void {
  for (const name of readdirSync(publishDir)) {
    const directory = join(publishDir, name);
    if (!name.startsWith(workPrefix) || Date.now() - statSync(directory).mtimeMs < 86_400_000)
      continue;
    rmSync(directory, { recursive: true, force: true });
  }
}

async function send(published: PublishedUpdate, config: Config, json: boolean): Promise<void> {
  const milliseconds = (seconds: number): number => seconds * 1000;
  try {
    await sendUpdate(published, config, {
      transmission: connectTransmission({
        ...config.transmission,
        timeoutMs: milliseconds(config.transmission.timeoutSeconds),
      }),
      serf: connectSerf({ ...config.serf, timeoutMs: milliseconds(config.serf.timeoutSeconds) }),
    });
  } catch (cause) {
    if (!(cause instanceof UpdateError)) throw cause;
    const key = `${published.channel}@${published.version}`;
    throw new UpdateError(
      cause.code,
      `${key} is signed and kept, but was not sent: ${cause.message}`,
      {
        hint: `${cause.hint}; then: submit.ts --resend ${key}`,
        ...(cause.cause === undefined ? {} : { cause: cause.cause }),
      },
    );
  }
  report(describeAnnouncement(published.payload, config), new Date(), json);
}

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2), Math.floor(Date.now() / 1000));
  switch (command.kind) {
    case 'help':
      process.stdout.write(help);
      return;
    case 'resend': {
      const config = loadConfig(process.env);
      await send(readPublished(config, command.key), config, command.json);
      return;
    }
    case 'submit':
      await submit(command.request, loadConfig(process.env), command);
      return;
    default:
      command satisfies never;
  }
}

main().catch((error: unknown) => {
  process.stderr.write(formatError('submit', error));
  process.exitCode = exitStatus(error);
});
