import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../../errors.ts';
import { readRegularFile } from '../../system/regular-file.ts';

/**
 * Legacy facts, which Puppet 8 leaves out (include_legacy_facts=false), and the facts in their place. Source:
 * `facter --show-legacy` of Facter 4, and its documentation of core facts.
 */
const replacements: Readonly<Record<string, string>> = {
  architecture: "facts['os']['architecture']",
  domain: "facts['networking']['domain']",
  fqdn: "facts['networking']['fqdn']",
  hardwareisa: "facts['processors']['isa']",
  hardwaremodel: "facts['os']['hardware']",
  hostname: "facts['networking']['hostname']",
  id: "facts['identity']['user']",
  ipaddress: "facts['networking']['ip']",
  ipaddress6: "facts['networking']['ip6']",
  lsbdistcodename: "facts['os']['distro']['codename']",
  lsbdistid: "facts['os']['distro']['id']",
  lsbdistrelease: "facts['os']['distro']['release']['full']",
  lsbmajdistrelease: "facts['os']['distro']['release']['major']",
  macaddress: "facts['networking']['mac']",
  memoryfree: "facts['memory']['system']['available']",
  memorysize: "facts['memory']['system']['total']",
  memorysize_mb: "facts['memory']['system']['total_bytes']",
  netmask: "facts['networking']['netmask']",
  network: "facts['networking']['network']",
  operatingsystem: "facts['os']['name']",
  operatingsystemmajrelease: "facts['os']['release']['major']",
  operatingsystemrelease: "facts['os']['release']['full']",
  osfamily: "facts['os']['family']",
  physicalprocessorcount: "facts['processors']['physicalcount']",
  processorcount: "facts['processors']['count']",
  rubyversion: "facts['ruby']['version']",
  selinux: "facts['os']['selinux']['enabled']",
  uptime: "facts['system_uptime']['uptime']",
  uptime_days: "facts['system_uptime']['days']",
  uptime_hours: "facts['system_uptime']['hours']",
  uptime_seconds: "facts['system_uptime']['seconds']",
};

/** Limits for reading: a warning is not worth more. */
const maxFiles = 1000;
const maxFileBytes = 1 << 20;

/** A legacy fact that a manifest uses, and the fact in its place. */
export interface LegacyFact {
  name: string;
  replacement: string;
}

/**
 * Finds the legacy facts that a manifest uses: as `$osfamily`, `$::osfamily` or `$facts['osfamily']`. Variables and
 * parameters that the manifest sets itself are none. It looks at the text and knows no scopes, so it serves for a
 * warning only.
 */
export function findLegacyFacts(manifest: string): LegacyFact[] {
  // Comments and texts in single quotes use no variable; the key of $facts is kept.
  const code = manifest
    .replace(/#.*$/gm, '')
    .replace(/(\$\{?(?:::)?facts\[)'(\w+)'/g, '$1"$2"')
    .replace(/'(?:\\.|[^'\\])*'/g, "''");
  return Object.entries(replacements)
    .filter(([name]) => {
      const isSet = [
        `\\$${name}\\s*=(?![=~])`,
        // Parameters: of a block, and of a class or defined type.
        `\\|[^|{}]*\\$${name}\\b[^|{}]*\\|`,
        `\\b(?:class|define)\\s+[\\w:]+[^{]*\\$${name}\\b`,
      ].some((pattern) => new RegExp(pattern).test(code));
      const asFact = new RegExp(`\\$\\{?(::)?facts\\["${name}"\\]|\\$\\{?::${name}\\b`).test(code);
      const asVariable = new RegExp(`\\$\\{?${name}\\b(?!\\s*::)`).test(code);
      return asFact || (asVariable && !isSet);
    })
    .map(([name, replacement]) => ({ name, replacement }));
}

/**
 * Finds the legacy facts of a manifest, or of all manifests below a directory; none for anything else.
 *
 * @throws UpdateError `configuration` for a manifest that this user may not read
 */
export function legacyFactsOf(path: string): LegacyFact[] {
  const found = new Map<string, LegacyFact>();
  for (const file of manifestsOf(path))
    for (const fact of findLegacyFacts(readText(file))) found.set(fact.name, fact);
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function manifestsOf(path: string): string[] {
  try {
    if (!lstatSync(path).isDirectory()) return path.endsWith('.pp') ? [path] : [];
    return readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.pp'))
      .slice(0, maxFiles)
      .map((name) => join(path, name));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP')) return [];
    throw error;
  }
}

function readText(file: string): string {
  const bytes = readRegularFile(file, { maxBytes: maxFileBytes });
  return typeof bytes === 'string' ? '' : bytes.toString();
}
