import { UpdateError } from '../../lib/errors.ts';

/** Years without leap days: spans are for expiry and time-outs. */
const secondsPer: Record<string, number> = {
  s: 1,
  m: 60,
  h: 3600,
  d: 86_400,
  w: 604_800,
  y: 31_536_000,
};

/**
 * A span of time such as `90d` or `12h`, in seconds.
 *
 * @throws UpdateError `usage` for anything but a whole number above 0 and one of s, m, h, d, w, y
 */
export function parseSpan(text: string): number {
  const match = /^([1-9]\d{0,8})([smhdwy])$/.exec(text);
  const [, count, unit] = match ?? [];
  if (count === undefined || unit === undefined)
    throw new UpdateError('usage', `${JSON.stringify(text)} is not a span of time`, {
      hint: 'write a number and one of s, m, h, d, w, y: 90d',
    });
  return Number(count) * (secondsPer[unit] ?? 0);
}

/** The time now, in unix seconds. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/**
 * A moment, in unix seconds: ISO 8601 with its zone (`2030-01-31T06:00Z`), or a span from now (`+2h`).
 *
 * @param fromSeconds the moment from which a span counts, in unix seconds
 * @throws UpdateError `usage` for anything else; a time without a zone could mean two moments
 */
export function parseMoment(text: string, fromSeconds: number): number {
  if (text.startsWith('+')) return fromSeconds + parseSpan(text.slice(1));
  const isZoned = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/.test(text);
  const moment = Math.floor(Date.parse(text) / 1000);
  if (isZoned && Number.isFinite(moment)) return moment;
  throw new UpdateError('usage', `${JSON.stringify(text)} is not a moment`, {
    hint: 'write 2030-01-31T06:00Z, with a zone, or +2h for two hours from now',
  });
}

/** Days from now after which the year of a date tells more than its time of day. */
const yearDays = 300;
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A moment in this machine's zone, 12 columns: `22 Nov 15:56`, or `22 Nov  2024` far from now. */
export function localTime(unixSeconds: number, fromSeconds = nowSeconds()): string {
  const date = new Date(unixSeconds * 1000);
  if (Number.isNaN(date.getTime())) return '?'.padEnd(12);
  const two = (count: number): string => String(count).padStart(2, '0');
  const day = `${String(date.getDate()).padStart(2)} ${months[date.getMonth()] ?? ''}`;
  const isFar = Math.abs(unixSeconds - fromSeconds) > yearDays * 86_400;
  return isFar
    ? `${day} ${String(date.getFullYear()).padStart(5)}`
    : `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** A span of seconds in its largest unit; one below 0, from a clock that is ahead, counts as 0. */
export function age(seconds: number): string {
  const span = Math.max(0, seconds);
  if (span < 120) return `${span} s`;
  if (span < 7200) return `${Math.floor(span / 60)} min`;
  if (span < 172_800) return `${Math.floor(span / 3600)} h`;
  return `${Math.floor(span / 86_400)} d`;
}
