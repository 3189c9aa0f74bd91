import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseBareTorrent } from '../../../lib/announcement/bare-torrent.ts';
import { looksLikeTorrent } from '../../../lib/announcement/update.ts';

const pieces = Buffer.alloc(20, 'p');
const info = (text = ''): Buffer =>
  Buffer.concat([
    Buffer.from(`d6:lengthi5e4:name4:a.pp12:piece lengthi16384e6:pieces20:`),
    pieces,
    Buffer.from(`${text}e`),
  ]);
const torrent = (infoDictionary: Buffer, head = '13:creation datei1500000000e'): Buffer =>
  Buffer.concat([Buffer.from(`d${head}4:info`), infoDictionary, Buffer.from('e')]);
const good = torrent(info(), '8:announce19:http://tracker/x/yz13:creation datei1500000000e');

describe('parseBareTorrent', () => {
  it.each<[string, Buffer]>([
    ['raw', good],
    ['with the newline that a shell or Serf adds', Buffer.concat([good, Buffer.from('\n')])],
    ['in base64', Buffer.from(good.toString('base64'))],
    ['in base64 without padding', Buffer.from(good.toString('base64').replace(/=+$/, ''))],
    ['in base64url', Buffer.from(good.toString('base64url'))],
  ])('takes a .torrent %s', async (_, payload) => {
    expect(looksLikeTorrent(payload)).toBe(true);
    const parsed = await parseBareTorrent(payload);
    expect(Buffer.from(parsed.pieces)).toEqual(pieces);
    expect(parsed).toMatchObject({
      infoHash: createHash('sha1').update(info()).digest('hex'),
      name: 'a.pp',
      length: 5,
      pieceLength: 16_384,
      created: 1_500_000_000,
    });
  });

  it('drops trackers, and keeps every key of the info dictionary, so that the hash holds', async () => {
    const payload = torrent(info('7:privatei1e'), '8:announce10:http://a/b13:creation datei9e');
    const { metainfo, infoHash } = await parseBareTorrent(payload);
    expect(metainfo.includes('announce')).toBe(false);
    const kept = metainfo.subarray('d4:info'.length, -1);
    expect(createHash('sha1').update(kept).digest('hex')).toBe(infoHash);
  });

  const files = Buffer.from(
    'd5:filesld6:lengthi5e4:pathl1:aeee4:name1:d12:piece lengthi16384e6:pieces20:ppppppppppppppppppppe',
  );
  const named = (name: string): Buffer =>
    Buffer.from(
      `d6:lengthi5e4:name${Buffer.byteLength(name)}:${name}12:piece lengthi16384e6:pieces20:${pieces.toString()}e`,
    );

  it.each<[string, Buffer, RegExp]>([
    ['several files', torrent(files), /several files/],
    ['no creation date', torrent(info(), ''), /no creation date/],
    ['a name that climbs', torrent(named('../../etc/passwd')), /not safe/],
    ['a name with a newline', torrent(named('a\nb')), /not safe/],
    ['an empty name', torrent(named('')), /not/],
    [
      'another number of pieces',
      torrent(Buffer.from(info().toString().replace('i5e', 'i99999e'))),
      /number of pieces/,
    ],
    [
      'a piece length that is no power of two',
      torrent(Buffer.from(info().toString().replace('i16384e', 'i16385e'))),
      /piece length/,
    ],
    [
      'a NUL that a shell dropped',
      Buffer.concat([good.subarray(0, -15), good.subarray(-14)]),
      /NUL/,
    ],
    ['no dictionary', Buffer.from('d8:announce'), /is not a .torrent/],
  ])('refuses %s', async (_, payload, message) => {
    await expect(parseBareTorrent(payload)).rejects.toThrow(
      expect.objectContaining({
        code: 'malformed',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('explains that a shell drops NUL bytes, and how to send it', async () => {
    const damaged = Buffer.concat([good.subarray(0, -15), good.subarray(-14)]);
    await expect(parseBareTorrent(damaged)).rejects.toThrow(
      expect.objectContaining({ hint: expect.stringMatching(/base64 -w0/) as string }),
    );
  });

  it('refuses random bytes as malformed, without any other error', async () => {
    let seed = 7;
    const random = (max: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % max;
    };
    for (let round = 0; round < 2000; round += 1) {
      const payload = Buffer.from(good);
      for (let change = 0; change <= round % 4; change += 1)
        payload.writeUInt8(random(256), random(payload.length));
      const cut = payload.subarray(0, payload.length - random(30));
      const result = await parseBareTorrent(cut).catch((error: unknown) => error);
      if (result instanceof Error) expect(result).toMatchObject({ code: 'malformed' });
    }
  });
});

describe('looksLikeTorrent', () => {
  it.each(['AQEAAQ', '', 'hello', 'dd', 'ZA', '<torrent>'])('is false for %j', (text) => {
    expect(looksLikeTorrent(Buffer.from(text))).toBe(false);
  });

  it.each(['0', '4', '8', '9'])(
    'is true for a first key of a length that begins with %s',
    (digit) => {
      const bytes = Buffer.from(`d${digit}:x`);
      expect(looksLikeTorrent(bytes)).toBe(true);
      expect(looksLikeTorrent(Buffer.from(bytes.toString('base64')))).toBe(true);
    },
  );
});
