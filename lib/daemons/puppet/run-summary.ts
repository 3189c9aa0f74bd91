import { readFile } from 'node:fs/promises';
import { hasErrno } from '../../errors.ts';

/** Counts of resources in a run of Puppet. */
export interface RunSummary {
  changed: number;
  /** Failed, or failed to restart: exit code 4 means either. */
  failed: number;
  outOfSync: number;
}

/** Reads the file of Puppet's setting `lastrunfile`; undefined when the run did not get that far. */
export async function readSummary(file: string): Promise<RunSummary | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const { parse } = await import('yaml');
  const summary = parse(text) as { resources?: Record<string, unknown> } | null;
  const count = (key: string): number => Number(summary?.resources?.[key] ?? 0);
  return {
    changed: count('changed'),
    failed: count('failed') + count('failed_to_restart'),
    outOfSync: count('out_of_sync'),
  };
}
