import { expect, it } from 'vitest';
import { isoTime } from '../../../lib/system/iso-time.ts';

it.each([
  [0, '1970-01-01T00:00:00.000Z'],
  [1_900_000_000, '2030-03-17T17:46:40.000Z'],
  [Number.MAX_SAFE_INTEGER, '+275760-09-13T00:00:00.000Z'],
])('writes %i seconds as %s', (seconds, text) => {
  expect(isoTime(seconds)).toBe(text);
});
