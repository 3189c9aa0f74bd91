import { createPublicKey, sign, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { formatKeySet, isFleetId, type KeySet, parseKeySet } from '../../../lib/trust/key-set.ts';
import { refusal } from '../../support/run/refusal.ts';
import { keySetText, vectorKey, vectors } from '../announcement/vectors.ts';
import { encodePoint } from './edwards.ts';

const keys = vectors.keys.map(({ id }) => publicKeyOf(vectorKey(id)));
const [a, b, c, root] = keys as [KeyOf, KeyOf, KeyOf, KeyOf];
type KeyOf = ReturnType<typeof publicKeyOf>;

const published: KeySet = {
  fleet: 'example',
  epoch: 7,
  rootThreshold: 1,
  rootKeys: [root],
  releaseThreshold: 1,
  releaseKeys: [
    { key: c, channels: ['acme-hello', 'default'] },
    { key: b, channels: null },
    { key: a, channels: null },
  ],
};

describe('the text of a key set', () => {
  it('is the published text', () => {
    expect(formatKeySet(published)).toBe(keySetText);
    expect(parseKeySet(keySetText)).toEqual(published);
  });

  it('does not depend on the order of keys and channels', () => {
    const channels = ['default', 'acme-hello'];
    const releaseKeys = [
      { key: a, channels: null },
      { key: c, channels },
      { key: b, channels: null },
    ];
    expect(formatKeySet({ ...published, releaseKeys })).toBe(keySetText);
    expect(channels).toEqual(['default', 'acme-hello']);
    const two: Partial<KeySet> = { releaseKeys: [{ key: a, channels: null }] };
    expect(formatKeySet({ ...published, ...two, rootKeys: [root, b] })).toBe(
      formatKeySet({ ...published, ...two, rootKeys: [b, root] }),
    );
  });

  it('survives parsing at every limit', () => {
    const many = Array.from({ length: 64 }, (_, i) => `${i}`.padStart(24, 'c')).sort();
    const largest: KeySet = {
      fleet: '~'.repeat(64),
      epoch: 2 ** 32 - 1,
      rootThreshold: 2,
      rootKeys: [b, root],
      releaseThreshold: 2,
      releaseKeys: [
        { key: c, channels: many },
        { key: a, channels: many },
      ],
    };
    expect(parseKeySet(formatKeySet(largest))).toEqual(largest);
  });

  it('is printable ASCII that can be signed as it is', () => {
    const bytes = Buffer.from(keySetText, 'utf8');
    expect(keySetText).toMatch(/^[ -~\n]*\n$/);
    const signature = sign(null, bytes, vectorKey(root.id));
    const again = Buffer.from(formatKeySet(parseKeySet(keySetText)), 'utf8');
    expect(verify(null, again, createPublicKey(vectorKey(root.id)), signature)).toBe(true);
  });

  it('is refused with any byte changed, unless it is the text of another key set then', () => {
    const lines = keySetText.split('\n');
    const accepted: string[] = [];
    for (let i = 0; i < keySetText.length; i += 1)
      for (const other of [keySetText.charCodeAt(i) ^ 1, 0x20, 0x0a, 0x30]) {
        const text = keySetText.slice(0, i) + String.fromCharCode(other) + keySetText.slice(i + 1);
        if (text === keySetText) continue;
        try {
          expect(formatKeySet(parseKeySet(text))).toBe(text);
          accepted.push(text.split('\n').find((line, at) => line !== lines[at]) ?? '');
        } catch (error) {
          expect(error).toMatchObject({ name: 'UpdateError' });
        }
      }
    // The others are texts of other key sets: against those a key set is guarded by its signatures.
    expect(new Set(accepted.map((line) => line.replace(/ .*/, '')))).toEqual(
      new Set(['fleet', 'epoch', 'release']),
    );
  });
});

describe('formatKeySet', () => {
  const all = [a, b, c].map((key) => ({ key, channels: null }));
  const limited = (channels: string[]) => [{ key: a, channels }];
  it.each<[string, Partial<KeySet>, RegExp]>([
    ['no fleet', { fleet: '' }, /fleet id/],
    ['a fleet of 65', { fleet: 'f'.repeat(65) }, /fleet id/],
    ['a fleet with a space', { fleet: 'a b' }, /fleet id/],
    ['a fleet with a newline', { fleet: 'a\nepoch 1' }, /fleet id/],
    ['a fleet that is not ASCII', { fleet: 'fl\u00f6te' }, /fleet id/],
    ['epoch 0', { epoch: 0 }, /epoch/],
    ['epoch 2^32', { epoch: 2 ** 32 }, /epoch/],
    ['half an epoch', { epoch: 1.5 }, /epoch/],
    ['no root key', { rootKeys: [] }, /1 to 3 root keys/],
    ['no release key', { releaseKeys: [] }, /1 to 3 release keys/],
    ['four root keys', { rootKeys: [a, b, c, root], releaseKeys: [] }, /1 to 3 root keys/],
    [
      'four release keys',
      { releaseKeys: [...all, { key: root, channels: null }] },
      /1 to 3 release keys/,
    ],
    ['root threshold 0', { rootThreshold: 0 }, /root threshold/],
    ['a root threshold above the keys', { rootThreshold: 2 }, /root threshold/],
    ['release threshold 0', { releaseThreshold: 0 }, /release threshold/],
    ['a release threshold above the keys', { releaseThreshold: 4 }, /release threshold/],
    ['one root key twice', { rootKeys: [root, root] }, /twice/],
    ['one release key twice', { releaseKeys: all.slice(0, 1).concat(all) }, /1 to 3|twice/],
    ['one release key under two limits', { releaseKeys: [...limited(['x']), ...limited(['y'])] }, /twice/], // prettier-ignore
    ['one key in both roles', { rootKeys: [a] }, /twice/],
    ['no channel', { releaseKeys: limited([]) }, /1 to 64 channels/],
    [
      '65 channels',
      { releaseKeys: limited(Array.from({ length: 65 }, (_, i) => `c${i}`)) },
      /1 to 64 channels/,
    ],
    ['a channel that is none', { releaseKeys: limited(['a b']) }, /1 to 64 channels/],
    ['a channel twice', { releaseKeys: limited(['x', 'x']) }, /twice/],
  ])('refuses %s', (_, changed, message) => {
    const { code, message: said } = refusal(() => formatKeySet({ ...published, ...changed }));
    expect(code).toBe('malformed');
    expect(said).toMatch(message);
  });
});

describe('parseKeySet', () => {
  const lines = keySetText.split('\n');
  const swapped = (i: number, j: number): string =>
    lines.map((line, at) => (at === i ? lines[j] : at === j ? lines[i] : line)).join('\n');
  const changed = (from: string | RegExp, to: string): string => {
    const text = keySetText.replace(from, to);
    if (text === keySetText) throw new Error(`nothing to change: ${String(from)}`);
    return text;
  };

  it.each<[string, string, RegExp]>([
    ['no text', '', /begins with/],
    ['another file', '-----BEGIN PUBLIC KEY-----\n', /begins with/],
    ['another form', changed('key set 1', 'key set 2'), /newer software needed/],
    ['the first line alone', 'p2p-update key set 1\n', /fleet id/],
    ['no fleet', changed('fleet example\n', ''), /fleet id/],
    ['a second fleet', changed('epoch 7', 'fleet other\nepoch 7'), /line 3 .* "epoch 7"/],
    ['a leading zero', changed('epoch 7', 'epoch 07'), /line 3 .* "epoch 7"/],
    ['a sign', changed('epoch 7', 'epoch +7'), /line 3/],
    ['another base', changed('epoch 7', 'epoch 0x7'), /line 3/],
    ['no epoch', changed('epoch 7\n', ''), /epoch/],
    ['an epoch in words', changed('epoch 7', 'epoch seven'), /epoch/],
    ['two spaces', changed('fleet example', 'fleet  example'), /fleet id/],
    ['a space at a line end', changed('epoch 7', 'epoch 7 '), /line 3/],
    ['a tab', changed('epoch 7', 'epoch\t7'), /epoch/],
    ['the line ends of Windows', keySetText.replaceAll('\n', '\r\n'), /begins with/],
    ['a byte order mark', `\ufeff${keySetText}`, /begins with/],
    ['an empty line', changed('epoch 7\n', 'epoch 7\n\n'), /line 4/],
    ['a comment', changed('epoch 7\n', 'epoch 7\n# ours\n'), /line 4/],
    ['text after the end', `${keySetText}more\n`, /line 10 .* end of the text/],
    ['no newline at the end', keySetText.slice(0, -1), /cut off/],
    ['lines in another order', swapped(2, 3), /line 3/],
    ['release keys out of order', swapped(6, 7), /line 7/],
    ['an id of another key', changed(a.id, b.id), /line 9/],
    ['upper-case digits', changed(/ 2543b9/, ' 2543B9'), /line 7/],
    ['no channels', changed(' channels *', ''), /1 to 64 channels/],
    ['channels out of order', changed('acme-hello,default', 'default,acme-hello'), /line 7/],
    ['a repeated channel', changed('acme-hello,default', 'default,default'), /twice/],
    ['all channels and one', changed('channels *', 'channels *,default'), /1 to 64 channels/],
    ['another word than channels', changed('channels *', 'channel *'), /line 8/],
    [
      'a threshold above the keys',
      changed('root threshold 1', 'root threshold 2'),
      /root threshold/,
    ],
    ['more than 8,192 characters', keySetText.padEnd(8193, '\n'), /longer than 8192/],
  ])('refuses %s', (_, text, message) => {
    const { code, message: said } = refusal(() => parseKeySet(text));
    expect(said).toMatch(message);
    expect(code).toBe('malformed');
  });

  const rawOf = (key: KeyOf): string => Buffer.from(key.raw).toString('hex');
  it.each([
    ['a key of small order', encodePoint(1n, 0n).toString('hex')],
    ['a key that is not canonical', encodePoint(2n ** 255n - 1n, 0n).toString('hex')],
    ['a short key', rawOf(a).slice(2)],
    ['a long key', `${rawOf(a)}00`],
    ['a key that is not hexadecimal', 'g'.repeat(64)],
  ])('refuses %s', (_, hex) => {
    expect(refusal(() => parseKeySet(changed(rawOf(a), hex))).code).toBe('untrusted');
  });
});

describe('isFleetId', () => {
  it.each([
    ['example', true],
    ['!~', true],
    ['', false],
    ['a b', false],
    ['a\n', false],
    ['f'.repeat(65), false],
  ])('judges %j: %s', (text, expected) => {
    expect(isFleetId(text)).toBe(expected);
  });
});
