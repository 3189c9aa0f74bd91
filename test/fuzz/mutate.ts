import { encodePoint, fromLittleEndian, groupOrder, littleEndian } from '../lib/trust/edwards.ts';
import { wire, type Corpus, type Sample } from './corpus.ts';
import type { Random } from './random.ts';

/** Mutations of a payload, with their share in 100: one that decodes costs a signature check. */
const weights = {
  unchanged: 1,
  'bit flips': 11,
  'bytes set': 7,
  'bytes inserted': 10,
  'bytes deleted': 10,
  'fields spliced': 10,
  'ranges spliced': 10,
  'signatures changed': 6,
  truncated: 9,
  extended: 7,
  're-encoded': 10,
  'text changed': 5,
  rubbish: 3,
  'bare torrent': 1,
};

export type Mutation = keyof typeof weights;
export const mutations = Object.keys(weights) as Mutation[];

const table = mutations.flatMap((mutation) => Array<Mutation>(weights[mutation]).fill(mutation));

export interface Payload {
  mutation: Mutation;
  payload: Buffer;
}

/** The samples as they are: a guard that is missing lets some of them pass, with no luck needed. */
export function unchanged({ genuine, refused }: Corpus): Payload[] {
  return [...genuine, ...refused].map(({ bytes }) => ({
    mutation: 'unchanged',
    payload: encoded(bytes),
  }));
}

/** One payload as an attacker may send it, with the mutations that made it. */
export function mutate(corpus: Corpus, random: Random): Payload {
  const mutation = random.pick(table);
  return { mutation, payload: makers[mutation](corpus, random) };
}

const makers: Record<Mutation, (corpus: Corpus, random: Random) => Buffer> = {
  unchanged: (corpus, random) => encoded(anySample(corpus, random).bytes),
  'bit flips': (corpus, random) => {
    const bytes = Buffer.from(anySample(corpus, random).bytes);
    repeat(random.between(1, 4), () => {
      const at = random.below(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    });
    return encoded(bytes);
  },
  'bytes set': (corpus, random) => {
    const bytes = Buffer.from(anySample(corpus, random).bytes);
    repeat(random.between(1, 4), () => (bytes[random.below(bytes.length)] = oddByte(random)));
    return encoded(bytes);
  },
  'bytes inserted': (corpus, random) => {
    const { bytes } = anySample(corpus, random);
    const at = random.below(bytes.length + 1);
    return encoded(replace(bytes, at, at, oddBytes(random, random.between(1, 8))));
  },
  'bytes deleted': (corpus, random) => {
    const { bytes } = anySample(corpus, random);
    const at = random.below(bytes.length);
    return encoded(replace(bytes, at, at + random.between(1, 8), Buffer.alloc(0)));
  },
  'fields spliced': (corpus, random) => {
    const sample = anySample(corpus, random);
    for (let tries = 0; ; tries += 1) {
      const spliced = spliceFields(sample, anySample(corpus, random), random);
      // Many fields are alike in two announcements, and nothing new costs the most to verify.
      if (tries === 5 || !spliced.equals(sample.bytes)) return encoded(spliced);
    }
  },
  'ranges spliced': (corpus, random) => {
    const [{ bytes }, { bytes: donor }] = [anySample(corpus, random), anySample(corpus, random)];
    const start = random.below(bytes.length);
    const end = random.below(3) === 0 ? bytes.length : start + random.between(1, 64);
    const from = random.below(3) === 0 ? random.below(donor.length) : start;
    return encoded(replace(bytes, start, end, donor.subarray(from, from + end - start)));
  },
  'signatures changed': (corpus, random) => {
    const sample = random.pick(corpus.genuine);
    const bytes = Buffer.from(sample.bytes);
    const [ids = [0, 0], ...signatures] = sample.fields.slice(17);
    const [start] = random.pick(signatures);
    const r = bytes.subarray(start, start + 32);
    const s = bytes.subarray(start + 32, start + 64);
    const other = random.pick(corpus.genuine);
    const swapped = other.bytes.subarray(...random.pick(other.fields.slice(18)));
    const [first] = signatures[0] ?? [0];
    random.pick<() => void>([
      () => {
        s.set(moved(s, groupOrder));
      },
      () => {
        s.set(moved(s, groupOrder * BigInt(random.between(2, 15))));
      },
      () => s.fill(0),
      () => {
        s.set(littleEndian(groupOrder - fromLittleEndian(s)));
      },
      () => {
        r.set(encodePoint(1n, 0n));
      },
      () => {
        r.set(encodePoint(2n ** 255n - BigInt(random.between(1, 19)), BigInt(random.below(2))));
      },
      () => (r[31] = (r[31] ?? 0) ^ 0x80),
      () => {
        bytes.set(swapped, start);
      },
      () => bytes.copyWithin(start, first, first + 64),
      () => bytes.copyWithin(first, start, start + 64),
      () => bytes.copyWithin(ids[0], ids[1] - 8, ids[1]),
      () => {
        bytes.subarray(...ids).set(random.bytes(8));
      },
    ])();
    return encoded(bytes);
  },
  truncated: (corpus, random) => {
    const { bytes } = anySample(corpus, random);
    const text = encoded(bytes);
    if (random.below(2) === 0) return text.subarray(0, random.below(text.length));
    return encoded(bytes.subarray(0, random.below(bytes.length)));
  },
  extended: (corpus, random) => {
    const { bytes } = anySample(corpus, random);
    const more = random.pick([
      () => oddBytes(random, random.between(1, 80)),
      () => bytes.subarray(-64),
      () => anySample(corpus, random).bytes,
      () => Buffer.alloc(random.between(900, 1600)),
    ])();
    return encoded(Buffer.concat([bytes, more]));
  },
  're-encoded': (corpus, random) => {
    const { bytes } = anySample(corpus, random);
    const text = wire(bytes);
    const at = random.below(text.length + 1);
    const space = random.pick([' ', '\n', '\r\n', '\t', '\0', '=', '.', '\xa0', '\ufeff']);
    const changed = random.pick<() => string>([
      () => bytes.toString('base64'),
      () => bytes.toString('base64').replace(/=+$/, ''),
      () => `${text}${'='.repeat(random.between(1, 3))}`,
      () => text.slice(0, at) + space + text.slice(at),
      () => space + text,
      () => text + space,
      () => text.replaceAll('-', '+').replaceAll('_', '/'),
      () => text.replace(/.{64}/g, '$&\n'),
      () => text.toUpperCase(),
      () => text.toLowerCase(),
      () => swapCase(text, at % text.length),
      () => spareBits(text, random),
      () => bytes.toString('hex'),
      () => bytes.toString('latin1'),
      () => encoded(Buffer.from(text)).toString(),
      () => JSON.stringify(text),
      () => Buffer.from(text, 'utf16le').toString('latin1'),
    ])();
    return Buffer.from(changed, 'latin1');
  },
  'text changed': (corpus, random) => {
    const text = encoded(anySample(corpus, random).bytes);
    const at = random.below(text.length);
    const made = random.below(2) === 0 ? random.bytes(1) : Buffer.from(wire(random.bytes(3)));
    return replace(text, at, at + random.below(3), made);
  },
  rubbish: (corpus, random) => {
    const bytes = random.bytes(random.below(700));
    // Half of it past the first guards: the head of a genuine announcement.
    if (random.below(2) === 0) return random.below(2) === 0 ? bytes : encoded(bytes);
    const { bytes: head } = random.pick(corpus.genuine);
    return encoded(
      Buffer.concat([head.subarray(0, random.between(1, 90)), bytes]).subarray(0, 675),
    );
  },
  'bare torrent': ({ torrents }, random) => {
    const torrent = Buffer.from(random.pick(torrents));
    repeat(random.below(4), () => (torrent[random.below(torrent.length)] = oddByte(random)));
    const whole = torrent.subarray(0, torrent.length - random.pick([0, 0, 1, 30]));
    return random.below(2) === 0 ? whole : Buffer.from(whole.toString('base64'));
  },
};

/** Chooses mostly genuine ones: a refused payload seldom gets worse. */
function anySample({ genuine, refused }: Corpus, random: Random): Sample {
  return random.pick(random.below(3) === 0 ? refused : genuine);
}

function encoded(bytes: Uint8Array): Buffer {
  return Buffer.from(wire(bytes));
}

/** Puts one field of the donor, or several in a row, in the place of the sample's. */
function spliceFields(sample: Sample, donor: Sample, random: Random): Buffer {
  const first = random.below(sample.fields.length);
  const last = random.below(4) === 0 ? random.between(first, sample.fields.length - 1) : first;
  const [start = 0] = sample.fields[first] ?? [];
  const [, end = start] = sample.fields[last] ?? [];
  const [from = 0] = donor.fields[first] ?? [];
  const [, to = from] = donor.fields[last] ?? [];
  return replace(sample.bytes, start, end, donor.bytes.subarray(from, to));
}

function replace(bytes: Buffer, start: number, end: number, made: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, start), made, bytes.subarray(end)]);
}

/** A byte that breaks lengths, counts and signs more often than a random one. */
function oddByte(random: Random): number {
  return random.below(2) === 0 ? random.below(256) : random.pick([0, 1, 2, 3, 0x7f, 0x80, 0xff]);
}

function oddBytes(random: Random, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, () => oddByte(random)));
}

/** S + a multiple of L, as far as 32 bytes go. */
function moved(s: Uint8Array, by: bigint): Buffer {
  return littleEndian((fromLittleEndian(s) + by) & (2n ** 256n - 1n));
}

function swapCase(text: string, at: number): string {
  const from = text.slice(at);
  const swapped = /[A-Za-z]/.exec(from);
  if (swapped === null) return text.toLowerCase();
  const where = at + swapped.index;
  const code = text.charCodeAt(where) ^ 0x20;
  return text.slice(0, where) + String.fromCharCode(code) + text.slice(where + 1);
}

/** Another last character that decodes to the same bytes, where there are spare bits. */
function spareBits(text: string, random: Random): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const spare = [0, 0, 4, 2][text.length % 4] ?? 0;
  const last = alphabet.indexOf(text.at(-1) ?? 'A');
  const bits = spare === 0 ? 1 : random.between(1, 2 ** spare - 1);
  return text.slice(0, -1) + (alphabet[last ^ bits] ?? 'A');
}

function repeat(count: number, action: () => unknown): void {
  for (let i = 0; i < count; i += 1) action();
}
