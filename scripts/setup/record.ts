import { isRecord, parseJson } from '../../lib/system/json.ts';
import type { Scheduler } from './arguments.ts';
import { type PlannedFile, publicFile } from './plan.ts';
import type { Machine } from './rules.ts';

const recordFile = '/etc/p2p-update/setup.json';

/** Choices that set-up remembers for its next run. */
export interface SetupRecord {
  scheduler: Scheduler;
  /** Whether Serf and Transmission are set-up's work too, and not done by hand. */
  daemons: boolean;
}

/** The choices of the run before; null for a machine that is set up for the first time. */
export function readSetupRecord({ read }: Pick<Machine, 'read'>): SetupRecord | null {
  const value = parseJson(read(recordFile) ?? '');
  if (!isRecord(value)) return null;
  const { scheduler, daemons } = value;
  if (scheduler !== 'systemd' && scheduler !== 'cron') return null;
  return { scheduler, daemons: daemons === true };
}

export function setupRecordFile(record: SetupRecord): PlannedFile {
  return { path: recordFile, ownership: publicFile, text: `${JSON.stringify(record)}\n` };
}
