import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Announcement } from '../../../lib/announcement/fields.ts';
import {
  buildMetainfo,
  computeInfoHash,
  contentFileName,
} from '../../../lib/announcement/metainfo.ts';
import type { Config } from '../../../lib/config.ts';
import { makeAnnouncement } from './announce.ts';
import type { FleetNode } from './fleet-node.ts';

/** Calls a daemon's RPC without our own client; prints the HTTP status (or why there is none), then the reply. */
const callRpc = `
  const { request } = require('node:http');
  const { readFileSync } = require('node:fs');
  const [url, login] = process.argv.slice(1);
  const body = readFileSync(0);
  const { username, password } = login === '' ? {} : JSON.parse(readFileSync(login, 'utf8'));
  const auth = login === '' ? {} : { auth: username + ':' + password };
  const post = (id) => {
    const headers = id === undefined ? {} : { 'x-transmission-session-id': id };
    const sent = request(url, { method: 'POST', headers, ...auth }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => {
        const { statusCode, headers } = response;
        if (statusCode === 409 && id === undefined) post(headers['x-transmission-session-id']);
        else console.log(statusCode + '\\n' + text);
      });
    });
    sent.on('error', (error) => console.log(error.code + '\\n'));
    sent.end(body);
  };
  post();`;

/** The command that calls the RPC at `url` with a login in a file, or with none; its input is the request. */
export function rpcCommand(url: string, loginFile: string | null): string[] {
  return [process.execPath, '-e', callRpc, url, loginFile ?? ''];
}

/** Calls the RPC of a node's own daemon, as its administrator, and expects that to work. */
export async function callTransmission(
  node: FleetNode,
  method: string,
  args: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const { url, credentialsFile } = node.config.transmission;
  const input = JSON.stringify({ method, arguments: args });
  const { stdout } = await node.run(rpcCommand(url, credentialsFile), { input });
  const [status, body = ''] = stdout.split('\n');
  expect({ status, body }).toMatchObject({ status: '200' });
  const reply = JSON.parse(body) as { result: string; arguments: Record<string, unknown> };
  expect(reply).toMatchObject({ result: 'success' });
  return reply.arguments;
}

/** Fields of torrent-get. */
interface RpcTorrent {
  hashString: string;
  name: string;
  percentDone: number;
  metadataPercentComplete: number;
  rateDownload: number;
  peersConnected: number;
}

/** The torrents that a node's daemon has, by info hash, without the dummy for a rechoke. */
export async function torrentsOn(node: FleetNode): Promise<Map<string, RpcTorrent>> {
  const fields = ['hashString', 'name', 'percentDone', 'metadataPercentComplete'];
  fields.push('rateDownload', 'peersConnected');
  const { torrents } = await callTransmission(node, 'torrent-get', { fields });
  return new Map(
    (torrents as RpcTorrent[])
      .filter(({ name }) => name !== 'p2p-update-kick')
      .map((torrent) => [torrent.hashString, torrent]),
  );
}

/** A truthful announcement of a file with this content; its pieces are in the announcement. */
export function announcementOf(
  content: Uint8Array,
  change: Partial<Announcement> = {},
): Announcement {
  const pieceLength = 2 ** 20;
  const digests: Buffer[] = [];
  for (let at = 0; at < content.length; at += pieceLength)
    digests.push(
      createHash('sha1')
        .update(content.subarray(at, at + pieceLength))
        .digest(),
    );
  const described = {
    name: 'a.bin',
    sha256: createHash('sha256').update(content).digest('hex'),
    length: content.length,
    pieceLength,
    pieces: Buffer.concat(digests),
  };
  const named = { ...described, name: change.name ?? described.name };
  return makeAnnouncement({
    kind: 'file',
    infoHash: computeInfoHash(named),
    ...named,
    ...change,
  });
}

/** Has a node's daemon seed the content of an announcement, past the node's p2p-update. */
export async function seed(
  node: FleetNode,
  announcement: Announcement,
  content: Uint8Array,
): Promise<void> {
  const { downloadDir } = node.config;
  writeFileSync(join(downloadDir, contentFileName(announcement)), content);
  await addTorrent(node, buildMetainfo(announcement));
}

/** Gives a .torrent to a node's daemon. */
export async function addTorrent(node: FleetNode, metainfo: Buffer): Promise<void> {
  const args = { metainfo: metainfo.toString('base64'), 'download-dir': node.config.downloadDir };
  await callTransmission(node, 'torrent-add', args);
}

/** Sends a payload to the fleet, as any member can. */
export async function sendEvent(node: FleetNode, payload: string): Promise<void> {
  const { status, stdout } = await node.serfCommand([
    'event',
    '-coalesce=false',
    'update',
    payload,
  ]);
  expect({ status, stdout }).toMatchObject({ status: 0 });
}

/** Changes a node's configuration, as root on it would; the next handler reads it. */
export function configure(node: FleetNode, change: Partial<Config>): void {
  writeFileSync(node.configFile, JSON.stringify({ ...node.config, ...change }));
}
