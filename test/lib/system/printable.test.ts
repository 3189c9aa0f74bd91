import { describe, expect, it } from 'vitest';
import { asciiOnly, printable } from '../../../lib/system/printable.ts';

describe('printable', () => {
  it.each([
    ['grüße "a" b', 'grüße "a" b'],
    ['a\nb\tc', String.raw`a\nb\tc`],
    ['a\\b', String.raw`a\\b`],
    ['\u001b[2J', String.raw`\u001b[2J`],
    ['\u007f\u009b\u2028', String.raw`\u007f\u009b\u2028`],
    ['x\u202egpj.exe', String.raw`x\u202egpj.exe`],
  ])('shows %j as %s', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('cuts a text at 200 characters, before they are escaped', () => {
    expect(printable('\n'.repeat(1000))).toBe(String.raw`\n`.repeat(200));
  });
});

describe('asciiOnly', () => {
  it('keeps the length of a text, and none of its characters beyond printable ASCII', () => {
    expect(asciiOnly('a b~\u001b[2J\u009bü\u202e\n')).toBe('a b~?[2J????');
  });
});
