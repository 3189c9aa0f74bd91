const maxChars = 200;

/**
 * Controls (C0, DEL, C1), line and paragraph separators, the bidirectional controls of Unicode, and the
 * backslash, since it begins the escapes.
 */
const escaped = /[\\\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/**
 * Makes text from outside fit for a message: at most 200 characters, and those that a terminal or a log
 * could act on escaped as in JSON.
 */
export function printable(text: string): string {
  return text.slice(0, maxChars).replace(escaped, (unit) => {
    const json = JSON.stringify(unit).slice(1, -1);
    return json === unit ? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}` : json;
  });
}

/**
 * Replaces all but printable ASCII by `?`, so that bytes, characters and columns are the same: for tables,
 * and for responses to a Serf query, which are limited in bytes.
 */
export function asciiOnly(text: string): string {
  return text.replace(/[^ -~]/g, '?');
}
