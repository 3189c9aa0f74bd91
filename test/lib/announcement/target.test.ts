import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkTarget, matchesTarget, type NodeIdentity } from '../../../lib/announcement/target.ts';
import { refusal } from '../../support/run/refusal.ts';
import { targets } from './arbitraries.ts';
import { codeBlock } from './vectors.ts';

interface TargetVectors {
  evaluated: {
    channel: string;
    node: string;
    tags: Record<string, string>;
    matches: string[];
    others: string[];
  }[];
  malformed: string[];
}

const vectors = JSON.parse(codeBlock('json targets')) as TargetVectors;
const evaluated = vectors.evaluated.flatMap(({ matches, others, ...at }) => [
  ...matches.map((target) => ({ ...at, target, expected: true })),
  ...others.map((target) => ({ ...at, target, expected: false })),
]);

const fleet = Array.from({ length: 10_000 }, (_, i) => `pi-${i}`);

function share(percent: string, channel = 'default', names = fleet): Set<string> {
  const held = (name: string) => matchesTarget(`share=${percent}%`, channel, { name, tags: {} });
  return new Set(names.filter(held));
}

describe('the test vectors of docs/announcement.md', () => {
  it.each(evaluated)(
    'evaluate "$target" on channel $channel for node $node with $tags to $expected',
    ({ target, channel, node, tags, expected }) => {
      expect(matchesTarget(target, channel, { name: node, tags })).toBe(expected);
    },
  );

  it.each(vectors.malformed)('refuse %j as malformed', (target) => {
    const { code } = refusal(() => {
      checkTarget(target);
    });
    expect(code).toBe('malformed');
  });

  it('have every kind of condition with both answers', () => {
    for (const condition of [/^share=/, /^!share=/, /^node=/, /^!node=/, /^role=/, /^!role=/])
      for (const expected of [true, false])
        expect(
          evaluated.some((v) => condition.test(v.target) && v.expected === expected),
          `${condition} ${expected ? 'matches' : 'others'}`,
        ).toBe(true);
  });
});

describe('the grammar', () => {
  it.each([
    '',
    'a=b',
    '0=0',
    '._-=~',
    '-x=y',
    'role="a b" (c) 100%',
    'a=b|c|d,!e=f|g,node=h|i,!node=j,share=1%,!share=2%',
    'role=web,role=web',
    'share=0.01%',
    'share=0.1%',
    'share=0.10%',
    'share=99.99%',
    'share=100%',
    'share=100.00%',
    'shares=many',
    'Share=x',
    'nodes=x',
    `k=${'v'.repeat(62)}`,
    `${'k'.repeat(62)}=v`,
  ])('takes %j', (target) => {
    expect(() => {
      checkTarget(target);
    }).not.toThrow();
  });

  const faults: [string, number, string, RegExp][] = [
    [' ', 1, 'at " "', /a key/],
    [',', 1, 'at ","', /a key/],
    ['!', 2, 'at its end', /a key/],
    ['=web', 1, 'at "=web"', /a key/],
    ['role', 5, 'at its end', /"=" is expected after "role"/],
    ['r\u00f4le=web', 2, 'at "\\u{f4}le=web"', /printable ASCII/],
    ['role = web', 5, 'at " = web"', /"=" is expected after "role"/],
    ['role!=web', 5, 'at "!=web"', /"=" is expected after "role"/],
    ['role=', 6, 'at its end', /a value/],
    ['role=|db', 6, 'at "|db"', /a value/],
    ['role=web|', 10, 'at its end', /a value/],
    ['role==web', 6, 'at "=web"', /a value/],
    ['role=!web', 6, 'at "!web"', /a value/],
    ['role= web', 6, 'at " web"', /no space at its start/],
    ['role=web  ,a=b', 9, 'at "  ,a=b"', /no space at its end/],
    ['role=web|db ', 12, 'at " "', /no space at its end/],
    ['role=web|role=db', 14, 'at "=db"', /none of ! , = and \|/],
    ['role=web!', 9, 'at "!"', /none of ! , = and \|/],
    ['role=web,', 10, 'at its end', /a key/],
    ['role=web, dc=glasgow', 10, 'at " dc=glasgow"', /a key/],
    ['role=web,,dc=glasgow', 10, 'at ",dc=glasgow"', /a key/],
    ['role=web,db', 12, 'at its end', /"=" is expected after "db"/],
    ['!!role=web', 2, 'at "!role=web"', /a key/],
    ['node=', 6, 'at its end', /a value/],
    ['share=', 7, 'at its end', /a share is/],
    ['share=10', 9, 'at its end', /a share is/],
    ['share=ten%', 7, 'at "ten%"', /a share is/],
    ['share=-1%', 7, 'at "-1%"', /a share is/],
    ['share=0%', 7, 'at "0%"', /0\.01% to 100%/],
    ['role=web,share=0.00%', 16, 'at "0.00%"', /0\.01% to 100%/],
    ['share=100.01%', 7, 'at "100.01%"', /0\.01% to 100%/],
    [`share=${'9'.repeat(57)}%`, 7, `at "${'9'.repeat(24)}"`, /0\.01% to 100%/],
    ['share=010%', 8, 'at "10%"', /no leading zero/],
    ['share=1.234%', 11, 'at "4%"', /two decimals/],
    ['share=1.%', 8, 'at ".%"', /two decimals/],
    ['share=10%|20%', 10, 'at "|20%"', /"," or the end/],
    ['!share=10%x', 11, 'at "x"', /"," or the end/],
    ['role=web\n', 9, 'at "\\u{a}"', /printable ASCII/],
    ['role=\u001b[2J', 6, 'at "\\u{1b}[2J"', /printable ASCII/],
    ['role=\u007f', 6, 'at "\\u{7f}"', /printable ASCII/],
    [`k=${'v'.repeat(63)}`, 65, 'at "v"', /at most 64/],
    ['\u0000'.repeat(100), 65, `at "${'\\u{0}'.repeat(24)}"`, /at most 64/],
  ];
  it.each(faults)('refuses %j in column %i', (target, column, where, rule) => {
    const { code, message, hint } = refusal(() => {
      checkTarget(target);
    });
    expect(code).toBe('malformed');
    expect(message).toContain(`target is wrong in column ${column}, ${where}: `);
    expect(message).toMatch(rule);
    expect(message).toMatch(/^[ -~]+$/);
    expect(hint).toContain('docs/announcement.md');
    expect(refusal(() => matchesTarget(target, 'default', { name: 'pi-07', tags: {} }))).toEqual(
      expect.objectContaining({ message }),
    );
  });

  it.each(['a', ' ', '9', '=', '\u0000'])('refuses a million of %j at once', (character) => {
    const start = performance.now();
    const { message } = refusal(() => {
      checkTarget(`share=${character.repeat(1_000_000)}`);
    });
    expect(message).toContain('column 65');
    // A quadratic parser would take minutes.
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  // The ABNF of docs/announcement.md, written a second time, without a line of the parser.
  const number = '(?:0|[1-9][0-9]{0,2})(?:\\.[0-9]{1,2})?';
  const value = '[^!,=|\\s](?:[^!,=|]*[^!,=|\\s])?';
  const condition = `!?(?:share=(?<percent>${number})%|(?!share=)[A-Za-z0-9._-]+=${value}(?:\\|${value})*)`;
  function follows(text: string): boolean {
    return text.length <= 64 && (text === '' || text.split(',').every(isCondition));
  }
  function isCondition(text: string): boolean {
    const match = new RegExp(`^${condition}$`).exec(text);
    if (match === null) return false;
    const percent = Number(match.groups?.['percent'] ?? 1);
    return percent > 0 && percent <= 100;
  }
  const piece = fc.constantFrom(
    ...['share=', 'node=', 'role=', 'a', 'b c', '10', '0', '.', '5', '%', '=', '!', '|', ',', ' '],
  );

  it('takes the targets that the ABNF allows, and no others', () => {
    let taken = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 9 }), (pieces) => {
        const text = pieces.join('');
        if (follows(text)) {
          taken += 1;
          checkTarget(text);
        } else
          expect(
            refusal(() => {
              checkTarget(text);
            }).code,
          ).toBe('malformed');
      }),
      { numRuns: 5_000 },
    );
    expect(taken).toBeGreaterThan(300);
  });

  it('takes every generated target', () => {
    fc.assert(
      fc.property(targets, (target) => {
        expect(follows(target)).toBe(true);
        checkTarget(target);
      }),
    );
  });
});

describe('evaluation', () => {
  it('finds tags that the node itself has, and none of its prototype', () => {
    const tags = Object.create({ role: 'web' }) as NodeIdentity['tags'];
    expect(matchesTarget('role=web', 'default', { name: 'pi-07', tags })).toBe(false);
    expect(matchesTarget('!role=web', 'default', { name: 'pi-07', tags })).toBe(true);
  });

  it('knows a tag by any name that the grammar allows', () => {
    const tags = JSON.parse('{ "__proto__": "a", "constructor": "b" }') as Record<string, string>;
    const node = { name: 'pi-07', tags };
    expect(matchesTarget('__proto__=a,constructor=b', 'default', node)).toBe(true);
    expect(matchesTarget('__proto__=b', 'default', node)).toBe(false);
  });

  it('needs all conditions to hold, and inverts a negated one', () => {
    const node = { name: 'pi-07', tags: { a: 'b', b: 'a', x: 'abc' } };
    const matches = (target: string) => matchesTarget(target, 'default', node);
    fc.assert(
      // Room for one "!" more.
      fc.property(
        targets.filter(({ length }) => length < 64),
        (target) => {
          const conditions = target === '' ? [] : target.split(',');
          expect(matches(target)).toBe(conditions.every(matches));
          for (const one of conditions)
            expect(matches(one.startsWith('!') ? one.slice(1) : `!${one}`)).toBe(!matches(one));
        },
      ),
    );
  });
});

describe('a share', () => {
  const percent = fc.integer({ min: 1, max: 10_000 }).map((hundredths) => hundredths / 100);
  const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 });

  it('has every node of a narrower share', () => {
    fc.assert(
      fc.property(
        percent,
        percent,
        fc.array(name),
        fc.constantFrom('a', 'b'),
        (p, q, names, on) => {
          const narrow = share(String(Math.min(p, q)), on, names);
          const wide = share(String(Math.max(p, q)), on, names);
          expect([...narrow].filter((node) => !wide.has(node))).toEqual([]);
        },
      ),
    );
  });

  it('has the whole fleet at 100%', () => {
    expect(share('100').size).toBe(fleet.length);
  });

  // 10,000 independent draws at 10 % have a standard deviation of 30; these bounds are five of it.
  it.each(['default', 'acme-hello', 'keyset', 'a'])(
    'has close to 10% of 10,000 nodes at 10% on channel %s',
    (channel) => {
      expect(Math.abs(share('10', channel).size - 1000)).toBeLessThan(150);
    },
  );

  it('has other nodes on another channel', () => {
    const one = share('10', 'default');
    const both = [...share('10', 'acme-hello')].filter((node) => one.has(node));
    // Independent: 1 % of 10,000, standard deviation 10.
    expect(Math.abs(both.length - 100)).toBeLessThan(50);
  });

  it('has the same nodes every time', () => {
    expect(share('10')).toEqual(share('10.00'));
  });
});
