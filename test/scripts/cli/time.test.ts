import { describe, expect, it } from 'vitest';
import { parseMoment, parseSpan } from '../../../scripts/cli/time.ts';

describe('parseSpan', () => {
  it.each([
    ['1s', 1],
    ['5m', 300],
    ['12h', 43_200],
    ['90d', 7_776_000],
    ['2w', 1_209_600],
    ['1y', 31_536_000],
  ])('reads %s as %i seconds', (text, seconds) => {
    expect(parseSpan(text)).toBe(seconds);
  });

  it.each(['', '0d', '-1d', '1.5h', '1', 'd', '1 d', '1D', '9999999999s', '1dd'])(
    'refuses %j',
    (text) => {
      expect(() => parseSpan(text)).toThrow(expect.objectContaining({ code: 'usage' }));
    },
  );
});

describe('parseMoment', () => {
  it.each([
    ['+2h', 1000 + 7200],
    ['2030-01-31T06:00Z', 1_896_069_600],
    ['2030-01-31T06:00:30.5Z', 1_896_069_630],
    ['2030-01-31T08:00+02:00', 1_896_069_600],
  ])('reads %s as the moment %i', (text, moment) => {
    expect(parseMoment(text, 1000)).toBe(moment);
  });

  it.each([
    '',
    'tomorrow',
    '2030-01-31',
    '2030-01-31T06:00',
    '2030-13-31T06:00Z',
    '+',
    '1896069600',
  ])('refuses %j', (text) => {
    expect(() => parseMoment(text, 0)).toThrow(expect.objectContaining({ code: 'usage' }));
  });
});
