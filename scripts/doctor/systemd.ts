import { existsSync } from 'node:fs';
import { tryCommand } from '../../lib/system/try-command.ts';

/** State of a unit, as `systemctl show` tells it. */
export interface UnitState {
  /** `not-found`: there is no such unit. */
  loadState: string;
  activeState: string;
  subState: string;
  /** `enabled`, `disabled` and others; '' for a unit that is not installed. */
  fileState: string;
  /** Automatic restarts since the service was started by a person or at boot. */
  restarts: number;
}

const timeoutMs = 5000;
const properties = ['Id', 'LoadState', 'ActiveState', 'SubState', 'UnitFileState', 'NRestarts'];

/** Whether systemd manages this machine (sd_booted(3)). */
export function isSystemdRunning(): boolean {
  return existsSync('/run/systemd/system');
}

/** Asks systemd for the state of units; null where it does not run, or does not answer. */
export async function showUnits(
  names: readonly string[],
): Promise<ReadonlyMap<string, UnitState> | null> {
  if (!isSystemdRunning()) return null;
  const wanted = properties.map((property) => `--property=${property}`);
  const { status, stdout } = await tryCommand(['systemctl', 'show', ...wanted, '--', ...names], {
    timeoutMs,
  });
  return status === 0 ? parseUnits(stdout) : null;
}

/** Parses the blocks that `systemctl show` prints for several units. */
export function parseUnits(text: string): ReadonlyMap<string, UnitState> {
  return new Map(
    text.split(/\n\n+/).flatMap((block): [string, UnitState][] => {
      const values = parseProperties(block);
      const id = values.get('Id');
      if (id === undefined) return [];
      return [
        [
          id,
          {
            loadState: values.get('LoadState') ?? '',
            activeState: values.get('ActiveState') ?? '',
            subState: values.get('SubState') ?? '',
            fileState: values.get('UnitFileState') ?? '',
            restarts: Number(values.get('NRestarts') ?? 0) || 0,
          },
        ],
      ];
    }),
  );
}

/** Parses lines of `NAME=value`. */
export function parseProperties(text: string): ReadonlyMap<string, string> {
  return new Map(
    text
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

/**
 * Whether the journal of a unit has a text; false where that cannot be read.
 *
 * @param sinceMs the earliest time; an hour ago unless told
 */
export async function journalHas(
  unit: string,
  pattern: string,
  sinceMs = Date.now() - 3_600_000,
): Promise<boolean> {
  if (!isSystemdRunning()) return false;
  const { stdout } = await tryCommand(
    [
      ...['journalctl', '-u', unit, `--since=@${Math.floor(sinceMs / 1000)}`],
      ...['-n', '500', '-o', 'cat', '--no-pager'],
    ],
    { timeoutMs },
  );
  return new RegExp(pattern, 'i').test(stdout);
}
