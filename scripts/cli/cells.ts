import type { CurrentRow } from '../../lib/query/judge-fleet.ts';
import type { Download } from '../../lib/query/downloads.ts';
import { asciiOnly, printable } from '../../lib/system/printable.ts';

/** Text of a member for a table: one line of ASCII, in which each character is a column. */
export function cell(text: string): string {
  return asciiOnly(printable(text));
}

/** Cuts a text to some columns; one that is cut ends in two dots. */
export function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 2))}..`;
}

/** Cuts the name of a file: its extension first, then its middle, since a version is at the end. */
export function cutName(file: string, columns: number): string {
  if (file.length <= columns) return file;
  const name = file.replace(/\.(tar\.gz|tgz|tar|zip|pp)$/, '');
  if (name.length <= columns) return name;
  const tail = Math.floor((columns - 2) / 2);
  return `${name.slice(0, columns - 2 - tail)}..${name.slice(name.length - tail)}`;
}

/** Percent and rate of a download: `45 %, 120 kB/s`; of several `12 to 45 %, 3.1 MB/s in all`. */
export function rateText(downloads: readonly Download[]): string {
  const percents = downloads.map(({ percent }) => percent);
  const [least, most] = [Math.min(...percents), Math.max(...percents)];
  const rate = downloads.reduce((sum, { bytesPerSecond }) => sum + bytesPerSecond, 0);
  const shown =
    rate < 1_000_000 ? `${Math.ceil(rate / 1000)} kB/s` : `${(rate / 1_000_000).toFixed(1)} MB/s`;
  const range = least === most ? `${least} %` : `${least} to ${most} %`;
  return `${range}, ${shown}${downloads.length > 1 ? ' in all' : ''}`;
}

/** The reason for a state, and what Puppet counted in its last run. */
export function resultText({ run, reason, state }: CurrentRow): string {
  if (run === null) return reason;
  const { exitCode, changed, failed } = run;
  const counts = [
    ...(exitCode === null ? [] : [`exit ${exitCode}`]),
    ...(changed === null ? [] : [`${changed} changed`]),
    ...(failed === null ? [] : [`${failed} failed`]),
  ].join(', ');
  return state === 'APPLIED' || reason === '' ? counts || 'applied' : `${reason} (${counts})`;
}
