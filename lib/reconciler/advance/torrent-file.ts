import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildMetainfo } from '../../announcement/metainfo.ts';
import { contentLocation, type Update } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { describeContent } from '../../content/hash-content.ts';
import { hasErrno } from '../../errors.ts';
import { torrentFileName } from '../../state/facts.ts';
import { torrentsDir } from '../../state/layout.ts';
import { replaceDurably } from '../../system/durable-write.ts';

/** The .torrent of an update, when its pieces are known; undefined when they travel as metadata. */
export function metainfoOf(update: Update): Buffer | undefined {
  if (update.metainfo !== null) return update.metainfo;
  const { sha256, pieces } = update;
  return sha256 === null || pieces.length === 0 ? undefined : buildMetainfo({ ...update, sha256 });
}

/** The .torrent that {@link keepTorrentFile} has kept; undefined when it is missing or damaged. */
export function keptMetainfo(config: Config, update: Update): Buffer | undefined {
  let metainfo: Buffer;
  try {
    metainfo = readFileSync(torrentFile(config, update));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES', 'EISDIR')) return undefined;
    throw error;
  }
  // As buildMetainfo writes it, the info dictionary is the only entry.
  const info = metainfo.subarray('d4:info'.length, -1);
  return createHash('sha1').update(info).digest('hex') === update.infoHash ? metainfo : undefined;
}

/**
 * Keeps the update's .torrent, named by channel and version. When the pieces came as metadata, they
 * are computed again from the content.
 */
export async function keepTorrentFile(config: Config, update: Update): Promise<void> {
  const file = torrentFile(config, update);
  // A damaged one is made again.
  const isKept = update.metainfo !== null ? existsSync(file) : keptMetainfo(config, update);
  if (isKept) return;
  const metainfo = metainfoOf(update) ?? (await rebuildMetainfo(config, update));
  if (metainfo !== undefined) replaceDurably(file, metainfo);
}

function torrentFile({ stateDir }: Config, update: Update): string {
  return join(torrentsDir(stateDir), torrentFileName(update));
}

async function rebuildMetainfo(config: Config, update: Update): Promise<Buffer | undefined> {
  const bases = [config.downloadDir, config.publishDir];
  const content = bases.map((base) => contentLocation(update, base).file).find(existsSync);
  if (content === undefined) return undefined;
  const described = await describeContent(content, update);
  if (described.infoHash !== update.infoHash) return undefined;
  return buildMetainfo({ ...described, name: update.name });
}
