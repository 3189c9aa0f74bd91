import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createDurably, replaceDurably } from '../../../lib/system/durable-write.ts';
import {
  decodeRecord,
  encodeRecord,
  readRecord,
  replaceRecord,
} from '../../../lib/system/record.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

describe('createDurably', () => {
  it('creates a file once, and leaves an existing one alone', () => {
    const file = join(temporaryDirectory(), 'fact');
    expect(createDurably(file, 'first')).toBe(true);
    expect(createDurably(file, 'second')).toBe(false);
    expect(readFileSync(file, 'utf8')).toBe('first');
  });

  it('leaves no temporary file, and a result that other users cannot read', () => {
    const directory = temporaryDirectory();
    createDurably(join(directory, 'fact'), 'x');
    createDurably(join(directory, 'fact'), 'y');
    replaceDurably(join(directory, 'fact'), 'z', 0o600);
    expect(readdirSync(directory)).toEqual(['fact']);
    expect(statSync(join(directory, 'fact')).mode & 0o777).toBe(0o600);
  });

  it('leaves no temporary file when the target cannot be replaced', () => {
    const directory = temporaryDirectory();
    expect(() => {
      replaceDurably(join(directory, 'missing', 'fact'), 'x');
    }).toThrow(/ENOENT/);
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe('records', () => {
  const value = { state: 'QUEUED', tries: 2, note: 'é\n"' };

  it('come back as they were written', () => {
    expect(decodeRecord(encodeRecord(value), 'file')).toEqual({ value });
  });

  it('are known to be damaged when any byte is flipped, cut or added', () => {
    const bytes = Buffer.from(encodeRecord(value));
    for (let index = 0; index < bytes.length; index += 1) {
      for (const bit of [1, 0x10, 0x80]) {
        const flipped = Buffer.from(bytes);
        flipped.writeUInt8(flipped.readUInt8(index) ^ bit, index);
        let read: unknown;
        try {
          read = decodeRecord(flipped.toString('latin1'), 'file');
        } catch (error) {
          // A hit on the format number itself: the error says that newer software is needed.
          expect(error).toMatchObject({ code: 'configuration' });
          continue;
        }
        expect(read).toBeUndefined();
      }
      expect(decodeRecord(bytes.toString('utf8', 0, index), 'file')).toBeUndefined();
    }
    expect(decodeRecord(`${bytes.toString()} `, 'file')).toBeUndefined();
  });

  it('keep their previous generation, which is used when the current one is damaged', () => {
    const file = join(temporaryDirectory(), 'record');
    replaceRecord(file, 1);
    replaceRecord(file, 2);
    replaceRecord(file, 3);
    expect(readRecord(file)).toBe(3);
    writeFileSync(file, 'rubbish');
    expect(readRecord(file)).toBe(2);
    expect(readFileSync(`${file}.corrupt`, 'utf8')).toBe('rubbish');
    expect(readRecord(file)).toBe(2);
  });

  it('never push out the good generation with a damaged one', () => {
    const file = join(temporaryDirectory(), 'record');
    replaceRecord(file, 1);
    replaceRecord(file, 2);
    writeFileSync(file, 'rubbish');
    replaceRecord(file, 3);
    writeFileSync(file, 'rubbish');
    expect(readRecord(file)).toBe(1);
  });

  it('are refused, not reset, when both generations are damaged', () => {
    const file = join(temporaryDirectory(), 'record');
    replaceRecord(file, 1);
    replaceRecord(file, 2);
    writeFileSync(file, '');
    writeFileSync(`${file}.previous`, '');
    expect(() => readRecord(file)).toThrow(expect.objectContaining({ code: 'configuration' }));
    expect(existsSync(file)).toBe(true);
  });

  it('are absent only when neither generation exists', () => {
    expect(readRecord(join(temporaryDirectory(), 'record'))).toBeUndefined();
  });
});
