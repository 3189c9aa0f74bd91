import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';
import { replaceDurably } from './durable.ts';
import { describeContent } from './describe-content.ts';
import { buildMetainfo } from './metainfo.ts';
import { contentLocation, type Update } from './update.ts';

/** The .torrent of an update, when its pieces are known; undefined when they travel as metadata. */
export function metainfoOf(update: Update): Buffer | undefined {
  if (update.metainfo !== null) return update.metainfo;
  const { sha256, pieces } = update;
  return sha256 === null || pieces.length === 0 ? undefined : buildMetainfo({ ...update, sha256 });
}

/**
 * Keeps the update's .torrent, named by channel and version. When the pieces came as metadata, they
 * are computed again from the content.
 */
export async function keepTorrentFile(config: Config, update: Update): Promise<void> {
  const file = join(config.stateDir, 'torrents', `${update.channel}-${update.version}.torrent`);
  if (existsSync(file)) return;
  const metainfo = metainfoOf(update) ?? (await rebuildMetainfo(config, update));
  if (metainfo !== undefined) replaceDurably(file, metainfo);
}

async function rebuildMetainfo(config: Config, update: Update): Promise<Buffer | undefined> {
  const bases = [config.downloadDir, config.publishDir];
  const content = bases.map((base) => contentLocation(update, base).file).find(existsSync);
  if (content === undefined) return undefined;
  const described = await describeContent(content, update);
  if (described.infoHash !== update.infoHash) return undefined;
  return buildMetainfo({ ...described, name: update.name });
}
