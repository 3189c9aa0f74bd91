import { describe, expect, it } from 'vitest';
import { formatStatus, parseStatus, type UpdateStatus } from '../../../lib/query/update-status.ts';
import { parseUpdateName } from '../../../lib/announcement/update.ts';

const noop: UpdateStatus = { state: 'APPLIED', reason: 'noop: resources that would change: 500' };
const many = Array.from(
  { length: 100 },
  (_, i) => `Main/File[/srv/a-rather-long-name/${i}]/content`,
);

describe('a response', () => {
  it('fits the limit of Serf, and counts the properties that it leaves out', () => {
    const text = formatStatus({ ...noop, wouldChange: many });
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(900);
    const read = parseStatus(text);
    expect(read?.wouldChange?.length).toBeGreaterThan(10);
    expect((read?.wouldChange?.length ?? 0) + (read?.more ?? 0)).toBe(100);
  });

  it('has no list unless it was a noop', () => {
    expect(parseStatus(formatStatus({ state: 'FAILED', reason: 'x' }))).toEqual({
      state: 'FAILED',
      reason: 'x',
    });
  });

  it.each([
    ...['', 'x', 'null', '[]', '{}', '{"state":1,"reason":"x"}', '{"state":"APPLIED"}'],
    ...['{"state":"MADE UP","reason":"x"}', '{"state":"constructor","reason":"x"}'],
  ])('of %j is malformed', (text) => {
    expect(parseStatus(text)).toBeUndefined();
  });

  it('cannot send control characters to a terminal', () => {
    const text = JSON.stringify({
      state: 'FAILED',
      reason: 'a\n\u001b[2J',
      wouldChange: ['\u0007'],
      more: 0,
    });
    expect(parseStatus(text)).toEqual({
      state: 'FAILED',
      reason: 'a??[2J',
      wouldChange: ['?'],
      more: 0,
    });
  });
});

describe('the name of an update', () => {
  it.each([
    ['default@1', { channel: 'default', version: 1 }],
    ['a.b-c_d@9007199254740991', { channel: 'a.b-c_d', version: 2 ** 53 - 1 }],
    ['default@9007199254740992', undefined],
    ['default@0', undefined],
    ['default@01', undefined],
    ['../x@1', undefined],
    ['default', undefined],
    ['default@1\n', undefined],
  ])('%j', (text, id) => {
    expect(parseUpdateName(text)).toEqual(id);
  });
});
