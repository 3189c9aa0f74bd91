import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { hasEvent } from '../support/fleet/submit.ts';
import { callTransmission, configure } from '../support/fleet/wire.ts';

const now = Math.floor(Date.now() / 1000);

/** The .torrent of one file as `transmission-create` makes it, free of NUL bytes. */
function bareTorrent(name: string, content: Buffer, created: number): Buffer {
  const pieces = createHash('sha1').update(content).digest();
  const info = Buffer.concat([
    Buffer.from(
      `d6:lengthi${content.length}e4:name${name.length}:${name}12:piece lengthi16384e6:pieces20:`,
    ),
    pieces,
    Buffer.from('7:privatei0ee'),
  ]);
  return Buffer.concat([
    Buffer.from(`d13:creation datei${created}e4:info`),
    info,
    Buffer.from('e'),
  ]);
}

/** A manifest whose piece hash survives a shell: without NUL, and not ending in a newline. */
function shellProof(node: FleetNode, text: string): Buffer {
  for (let salt = 0; ; salt += 1) {
    const manifest = Buffer.from(
      `# ${salt}\nfile { "\${settings::confdir}/bare": content => '${text}' }\n`,
    );
    const hash = createHash('sha1').update(manifest).digest();
    if (!hash.includes(0)) return manifest;
  }
}

let fleet: Fleet;
let sender: FleetNode;
let open: FleetNode;

/**
 * Puts content where the sender's daemon seeds bare torrents from, or into `own`, a directory of the operator,
 * whose torrent is seeding by then; and sends the torrent.
 */
async function send(
  name: string,
  content: Buffer,
  created: number,
  form: 'raw' | 'base64',
  own?: string,
) {
  const torrent = bareTorrent(name, content, created);
  const infoHash = createHash('sha1')
    .update(torrent.subarray(torrent.indexOf('4:info') + 6, -1))
    .digest('hex');
  const directory = own ?? join(sender.config.downloadDir, infoHash);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, name), content);
  if (own !== undefined) {
    const args = { metainfo: torrent.toString('base64'), 'download-dir': own };
    await callTransmission(sender, 'torrent-add', args);
    await fleet.waitFor('the operator seeds it', () => isSeededFrom(infoHash, own));
  }
  const file = join(fleet.directory, `${name}.torrent`);
  writeFileSync(file, torrent);
  const read = form === 'raw' ? 'cat "$1"' : 'base64 -w0 "$1"';
  // The very command of the README, by a shell.
  const command = `serf event -coalesce=false update "$(${read})"`;
  const key = readFileSync(sender.config.serf.rpcAuthFile ?? '', 'utf8').trim();
  const env = { SERF_RPC_AUTH: key };
  const { status } = await sender.run(['sh', '-c', command, 'sh', file], { env });
  expect(status).toBe(0);
  return { channel: 'default', version: created, infoHash };
}

/** Whether the sender's daemon has all of a torrent, in this directory. */
async function isSeededFrom(infoHash: string, directory: string): Promise<boolean> {
  const fields = ['downloadDir', 'percentDone', 'status'];
  const reply = await callTransmission(sender, 'torrent-get', { ids: [infoHash], fields });
  const [torrent] = reply['torrents'] as { downloadDir: string; percentDone: number }[];
  return torrent?.downloadDir === directory && torrent.percentDone === 1;
}

describe('a bare .torrent', () => {
  describe('where allowUnsigned is set', () => {
    beforeAll(async () => {
      fleet = await startFleet({ nodes: 2, config: { allowUnsigned: true } });
      [sender, open] = fleet.nodes as [FleetNode, FleetNode];
    });
    afterAll(() => {
      fleet.stop();
    });

    it.each([
      ['raw', now],
      ['base64', now + 1],
    ] as const)('is downloaded and applied, sent %s', async (form, created) => {
      const content = shellProof(sender, form);
      const update = await send(`bare-${form}.pp`, content, created, form);
      await fleet.waitFor('both nodes have applied it', () =>
        fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
      );
      const applied = join(open.config.puppet.confDir, 'bare');
      expect(readFileSync(applied, 'utf8')).toBe(form);
      const kept = join(open.config.stateDir, 'torrents', `default-${created}.torrent`);
      expect(existsSync(kept)).toBe(true);
    });

    it('leaves the torrents that the operator seeds, and their files, where they are', async () => {
      for (const node of fleet.nodes) configure(node, { keepVersions: 1 });
      const own = join(fleet.directory, 'the operator’s own');
      const sent = [];
      for (const text of ['own-a', 'own-b']) {
        const created = now + 2 + sent.length;
        const update = await send(`${text}.pp`, shellProof(sender, text), created, 'base64', own);
        await fleet.waitFor('both nodes have applied it', () =>
          fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
        );
        expect(readFileSync(join(open.config.puppet.confDir, 'bare'), 'utf8')).toBe(text);
        sent.push(update);
      }
      // The copy for the apply side goes, and so does, elsewhere, what is superseded.
      const [first, second] = sent as [(typeof sent)[number], (typeof sent)[number]];
      await fleet.waitFor('the other node has removed the first', async () => {
        for (const node of fleet.nodes) await node.script('reconcile', []);
        return !existsSync(join(open.config.downloadDir, first.infoHash));
      });
      expect(await isSeededFrom(first.infoHash, own)).toBe(true);
      expect(await isSeededFrom(second.infoHash, own)).toBe(true);
      expect(readdirSync(own).sort()).toEqual(['own-a.pp', 'own-b.pp']);
      expect(readdirSync(join(sender.config.stateDir, 'copies'))).toEqual([]);
    });

    it('never goes back to an older creation date', async () => {
      const update = await send('older.pp', shellProof(sender, 'older'), now - 1000, 'base64');
      await fleet.waitFor('it is refused', () => hasEvent(open, update, 'refuse'));
      expect(readFileSync(join(open.config.puppet.confDir, 'bare'), 'utf8')).toBe('own-b');
    });
  });

  it('is refused as unsigned everywhere else', async () => {
    fleet = await startFleet({ nodes: 2, transmission: false });
    try {
      [sender, open] = fleet.nodes as [FleetNode, FleetNode];
      await send('closed.pp', shellProof(sender, 'x'), now, 'raw');
      const refusal = await fleet.waitFor('it is refused', () =>
        open.events().find(({ decision }) => decision === 'refuse'),
      );
      expect(refusal.reason).toMatch(/without a signature/);
      expect(existsSync(join(open.config.stateDir, 'announcements'))).toBe(false);
    } finally {
      fleet.stop();
    }
  });
});
