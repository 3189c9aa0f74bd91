import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type UpdateId, updateKey } from '../../../lib/announcement/update.ts';
import { type Config, parseConfig } from '../../../lib/config.ts';
import { encodeRecord } from '../../../lib/system/record.ts';
import { publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { formatKeySet, type KeySet } from '../../../lib/trust/key-set.ts';
import { repository } from '../run/repository.ts';
import { programArgv } from '../run/program.ts';
import { temporaryDirectory } from '../run/temporary.ts';

/** End of a script. */
export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A key pair in files, as keygen writes them. */
export interface KeyFiles {
  id: string;
  privateKey: KeyObject;
  /** 0600. */
  key: string;
  pub: string;
}

/** A machine that submits, with stand-ins for its daemons. */
export interface Operator {
  directory: string;
  config: Config;
  keySet: KeySet;
  /** By ascending id, as in the key set. */
  roots: KeyFiles[];
  releases: KeyFiles[];
  env: Record<string, string>;
  /** Writes a file in `directory` and returns its path. */
  file(name: string, content: string): string;
  /** The payloads of the events that Serf was asked to send. */
  sent(): string[];
  /** Response of `serf members`; undefined: the agent is down. */
  setMembers(
    members: { name: string; tags: Record<string, string>; status?: string }[] | undefined,
  ): void;
}

/** Runs a command of the built program, on an operator's machine where one is given. */
export function runCommand(
  command: string,
  args: readonly string[],
  operator?: { env: Record<string, string>; directory: string },
): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], ...operator?.env };
    const cwd = operator?.directory ?? tmpdir();
    const [node = '', ...argv] = [...programArgv(`p2p-update.cjs ${command}`), ...args];
    const child = execFile(node, argv, { env, cwd }, (_, stdout, stderr) => {
      resolve({ status: child.exitCode, stdout, stderr });
    });
  });
}

/** A new key pair, its files below `directory`. */
export function makeKeyFiles(directory: string, name: string): KeyFiles {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const [key, pub] = [join(directory, `${name}.key`), join(directory, `${name}.pub`)];
  writeFileSync(key, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
  writeFileSync(pub, publicKey.export({ format: 'pem', type: 'spki' }));
  return { id: publicKeyOf(publicKey).id, privateKey, key, pub };
}

export interface OperatorOptions {
  roots?: number;
  rootThreshold?: number;
  releases?: number;
  releaseThreshold?: number;
  /** Of a stand-in, see {@link serveTransmission}; without it Transmission is down. */
  transmissionUrl?: string;
}

/** Makes a machine that submits; its files are removed after the test. */
export function makeOperator(options: OperatorOptions = {}): Operator {
  const { roots: rootCount = 1, releases: releaseCount = 1, releaseThreshold = 1 } = options;
  const directory = temporaryDirectory();
  const at = (...parts: string[]): string => join(directory, ...parts);
  for (const made of ['keys', 'state', 'apply', 'publish']) mkdirSync(at(made));
  const make = (role: string, count: number): KeyFiles[] =>
    Array.from({ length: count }, (_, i) => makeKeyFiles(at('keys'), `${role}-${i + 1}`)).sort(
      (a, b) => (a.id < b.id ? -1 : 1),
    );
  const [roots, releases] = [make('root', rootCount), make('release', releaseCount)];
  const keySet: KeySet = {
    fleet: 'test-fleet',
    epoch: 1,
    rootThreshold: options.rootThreshold ?? 1,
    rootKeys: roots.map(({ privateKey }) => publicKeyOf(privateKey)),
    releaseThreshold,
    releaseKeys: releases.map(({ privateKey }) => ({
      key: publicKeyOf(privateKey),
      channels: null,
    })),
  };
  writeFileSync(at('keyset.txt'), formatKeySet(keySet));
  writeFileSync(at('serf'), serfStandIn(directory), { mode: 0o755 });
  const settings = {
    stateDir: at('state'),
    applyDir: at('apply'),
    publishDir: at('publish'),
    keySetFile: at('keyset.txt'),
    signingKeyFiles: releases.map(({ key }) => key),
    serf: { command: at('serf') },
    transmission: {
      // Nothing listens on port 1.
      url: options.transmissionUrl ?? 'http://127.0.0.1:1/transmission/rpc',
      credentialsFile: null,
    },
  };
  writeFileSync(at('config.json'), JSON.stringify(settings));
  return {
    directory,
    config: parseConfig(JSON.stringify(settings), 'config.json'),
    keySet,
    roots,
    releases,
    env: { P2P_UPDATE_CONFIG: at('config.json') },
    file(name, content) {
      writeFileSync(at(name), content);
      return at(name);
    },
    sent: () =>
      existsSync(at('events')) ? readFileSync(at('events'), 'utf8').trimEnd().split('\n') : [],
    setMembers(members) {
      rmSync(at('members.json'), { force: true });
      if (members === undefined) return;
      const listed = members.map((member) => ({
        ...{ addr: '192.0.2.1:7946', status: 'alive' },
        ...member,
      }));
      writeFileSync(at('members.json'), JSON.stringify({ members: listed }));
    },
  };
}

/** Has members answer every query with these texts, by their names. */
export function setAnswers({ directory }: Operator, answers: Record<string, string>): void {
  writeFileSync(join(directory, 'answers.json'), JSON.stringify({ Responses: answers }));
}

/** Puts an announcement where submit keeps what it published. */
export function keepAnnouncement(
  { config }: { config: Pick<Config, 'publishDir'> },
  id: UpdateId,
  payload: string,
): void {
  const directory = join(config.publishDir, 'announcements');
  mkdirSync(directory, { recursive: true });
  const { channel, version } = id;
  const record = encodeRecord({ channel, version, payload, metainfo: null });
  writeFileSync(join(directory, updateKey(id)), record);
}

/** Serf's command, as far as submit knows it: the agent is up while members.json is there. */
function serfStandIn(directory: string): string {
  const handler = (name: string, kind: 'user' | 'query', event: string): string =>
    `env SERF_EVENT=${kind} SERF_USER_EVENT=${event} SERF_USER_LTIME=1 SERF_QUERY_NAME=${event} ` +
    `SERF_QUERY_LTIME=1 SERF_SELF_NAME=n1 P2P_UPDATE_CONFIG="$PWD/config.json" ` +
    `'${process.execPath}' '${join(repository, 'dist', 'handlers', name)}'`;
  return `#!/bin/sh
cd '${directory}'
[ -e members.json ] || { echo 'Error connecting to Serf agent: connection refused'; exit 1; }
for payload; do :; done
# The agent's own handlers: that of events, unless a test makes it deaf, and that of queries, if it wants it.
case "$1 $*" in
members*) cat members.json ;;
info*) echo '{"agent":{"name":"n1"}}' ;;
event*)
  echo "$payload" >> events
  [ -e deaf ] || echo "$payload" | ${handler('update.cjs', 'user', 'update')} > heard 2>&1
  echo "Event 'update' dispatched!" ;;
query*)
  [ -e answers ] || { cat answers.json 2>/dev/null; exit 0; }
  answer=$(echo "$payload" | ${handler('status.cjs', 'query', 'update-status')} | sed 's/"/\\\\"/g')
  printf '{"Responses":{"n1":"%s"}}' "$answer" ;;
esac
`;
}

/**
 * A daemon that announces and seeds at once any torrent that it is given, of which `added` has the info
 * dictionary, in base64. The content must be there and be readable.
 */
export async function serveTransmission(): Promise<{ url: string; added: string[] }> {
  const added: string[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const call = JSON.parse(body) as { method: string; arguments: Record<string, unknown> };
      const reply = answer(call.method, call.arguments, added);
      response.end(JSON.stringify({ result: 'success', arguments: reply }));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/transmission/rpc`, added };
}

function answer(method: string, args: Record<string, unknown>, added: string[]): object {
  if (method === 'torrent-add') {
    const metainfo = Buffer.from(String(args['metainfo']), 'base64');
    const info = metainfo.subarray(metainfo.indexOf('4:info') + 6, -1);
    const url = /^d8:announce\d+:(http:\S+?)4:info/.exec(metainfo.toString('latin1'))?.[1];
    const hash = createHash('sha1').update(info).digest('hex').replace(/../g, '%$&');
    if (url !== undefined)
      get(`${url}?info_hash=${hash}&event=started`).on('error', () => undefined);
    added.push(info.toString('base64'));
    return { 'torrent-added': { id: 1, name: 'x', hashString: '0'.repeat(40) } };
  }
  const [hashString] = (args['ids'] as string[] | undefined) ?? [];
  const numbers = { metadataPercentComplete: 1, percentDone: 1, status: 6, totalSize: 1 };
  const counts = { peersConnected: 0, pieceSize: 16_384, rateDownload: 0 };
  const dates = { activityDate: 0, addedDate: 0 };
  const texts = {
    uploadedEver: 0,
    rateUpload: 0,
    error: 0,
    hashString,
    name: 'x',
    downloadDir: '/',
    errorString: '',
  };
  return { torrents: [{ ...numbers, ...counts, ...dates, ...texts, files: [], trackerStats: [] }] };
}
