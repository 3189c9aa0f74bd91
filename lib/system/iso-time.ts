/** The latest time that Date can hold, in unix seconds (ECMA-262, Time Values and Time Range). */
const maxSeconds = 8.64e12;

/** ISO 8601 in UTC, with milliseconds; a later time than Date can hold counts as its latest. */
export function isoTime(unixSeconds: number): string {
  return new Date(Math.min(unixSeconds, maxSeconds) * 1000).toISOString();
}
