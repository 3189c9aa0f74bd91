import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';
import { replaceDurably } from './durable.ts';
import { buildMetainfo, describeContent, infoHashOf } from './metainfo.ts';
import { contentLocation, contentName, type Update } from './update.ts';

/** The .torrent of an update, when its pieces are known; undefined when they travel as metadata. */
export function metainfoOf(update: Update): Buffer | undefined {
  if (update.metainfo !== null) return update.metainfo;
  if (update.pieces.length === 0) return undefined;
  return buildMetainfo({ ...update, name: contentName(update) });
}

/**
 * Keeps the update's .torrent, named by channel and version. When the pieces came as metadata, they
 * are computed again from the content.
 */
export async function keepTorrentFile(config: Config, update: Update): Promise<void> {
  const file = join(config.stateDir, 'torrents', `${update.channel}-${update.version}.torrent`);
  if (existsSync(file)) return;
  let metainfo = metainfoOf(update);
  if (metainfo === undefined) {
    const bases = [config.downloadDir, config.publishDir];
    const content = bases.map((base) => contentLocation(update, base).file).find(existsSync);
    if (content === undefined) return;
    const { pieces } = await describeContent(content, update.pieceLength);
    const described = { ...update, name: contentName(update), pieces };
    if (infoHashOf(described) !== update.infoHash) return;
    metainfo = buildMetainfo(described);
  }
  replaceDurably(file, metainfo);
}
