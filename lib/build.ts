import { basename, dirname, join } from 'node:path';

declare const p2pUpdateBuildTime: number | undefined;

/**
 * Build time of this software, in unix seconds; a clock before that is wrong. `npm run build` puts it in;
 * 0 when run from source.
 */
export const buildTime = typeof p2pUpdateBuildTime === 'number' ? p2pUpdateBuildTime : 0;

/** The absolute path of dist/, seen from lib/ and from any bundle below dist/. */
export function distDirectory(): string {
  const here = import.meta.dirname;
  return basename(dirname(here)) === 'dist' ? dirname(here) : join(dirname(here), 'dist');
}

declare const p2pUpdateVersion: string | undefined;

/** The version of this software, as package.json has it; `npm run build` puts it in. */
export const softwareVersion = typeof p2pUpdateVersion === 'string' ? p2pUpdateVersion : 'source';
