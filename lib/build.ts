import { basename, dirname, join } from 'node:path';

declare const p2pUpdateBuildTime: number | undefined;

/**
 * Time of this software's sources, in unix seconds; a clock before that is wrong. `npm run build` puts it
 * in; 0 when run from source.
 */
export const buildTime = typeof p2pUpdateBuildTime === 'number' ? p2pUpdateBuildTime : 0;

/** The absolute path of dist/, seen from lib/, from the program in dist/ and from any bundle below it. */
export function distDirectory(): string {
  const here = import.meta.dirname;
  if (buildTime === 0) return join(dirname(here), 'dist');
  return ['handlers', 'commands'].includes(basename(here)) ? dirname(here) : here;
}

/** The absolute path of the one program that operators, units and handlers start. */
export function programFile(): string {
  return join(distDirectory(), 'p2p-update.cjs');
}

declare const p2pUpdateVersion: string | undefined;

/** The version of this software, as package.json has it; `npm run build` puts it in. */
export const softwareVersion = typeof p2pUpdateVersion === 'string' ? p2pUpdateVersion : 'source';
