import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLegacyFacts, legacyFactsOf } from '../../../../lib/daemons/puppet/legacy-facts.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const names = (manifest: string): string[] => findLegacyFacts(manifest).map(({ name }) => name);

describe('findLegacyFacts', () => {
  it.each<[string, string, string[]]>([
    ['a variable', 'if $osfamily == "Debian" { }', ['osfamily']],
    ['an argument', 'notice($osfamily)', ['osfamily']],
    ['a top-scope variable', 'notice($::fqdn)', ['fqdn']],
    ['variables in a text', 'notice("on ${ipaddress} and $::domain")', ['domain', 'ipaddress']],
    ['a key of $facts', "notice($facts['operatingsystem'])", ['operatingsystem']],
    ['a key of $facts in a text', 'notice("${facts[\'osfamily\']}")', ['osfamily']],
    ['structured facts', "notice($facts['os']['family'])", []],
    ['a comment', '# $osfamily\nnotice("x")', []],
    ['a text in single quotes', "notice('$osfamily')", []],
    ['a variable of its own', '$hostname = "a"\nnotice($hostname)', []],
    ['a parameter', 'class a(String $network) { notice("$network") }', []],
    ['a parameter of a block', '$list.each |$id| { notice("${id}") }', []],
    ['longer names', 'notice("${hostname_of} ${identity}")', []],
    ['a qualified name', 'notice($network::params::x)', []],
  ])('judges %s', (_, manifest, expected) => {
    expect(names(manifest).sort()).toEqual(expected);
  });

  it('names the fact in its place', () => {
    expect(findLegacyFacts('if $osfamily == "x" { }')).toEqual([
      { name: 'osfamily', replacement: "facts['os']['family']" },
    ]);
  });
});

describe('legacyFactsOf', () => {
  it('looks through every manifest below a directory, and at nothing else', () => {
    const directory = temporaryDirectory();
    mkdirSync(join(directory, 'manifests', 'deep.pp'), { recursive: true });
    writeFileSync(join(directory, 'manifests', 'site.pp'), 'if $osfamily == "x" { }');
    writeFileSync(join(directory, 'manifests', 'deep.pp', 'x.pp'), 'notice($::fqdn)');
    writeFileSync(join(directory, 'README'), 'notice($::ipaddress)');
    expect(legacyFactsOf(directory).map(({ name }) => name)).toEqual(['fqdn', 'osfamily']);
    expect(legacyFactsOf(join(directory, 'manifests', 'site.pp'))).toHaveLength(1);
    expect(legacyFactsOf(join(directory, 'README'))).toEqual([]);
    expect(legacyFactsOf(join(directory, 'missing.pp'))).toEqual([]);
  });
});
