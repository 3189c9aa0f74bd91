/** A name from outside, fit for a message: what a terminal could obey is escaped. */
export function printable(name: string): string {
  return JSON.stringify(name.slice(0, 200)).replace(
    /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A terminal shows it: no control characters from another machine. */
export function asciiOnly(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

/** A member's name for a log or a terminal: any member chose its own. */
export function shownName(name: string): string {
  return name.slice(0, 64).replace(/[^!-~]/g, '?');
}
