/** Verdict of a check; skipped: it could not be made here, or not by this user. */
export type CheckVerdict = 'ok' | 'warn' | 'fail' | 'skipped';

/** One check of a node, with the commands that mend it. */
export interface Check {
  /** Stable, for scripts: `disk`, `serf-encryption`. */
  id: string;
  title: string;
  verdict: CheckVerdict;
  /** The finding, in one line. */
  what: string;
  /** Commands that can be pasted, in their order; empty when there is nothing to mend. */
  fix: string[];
}

/** Makes the verdicts of one check. `warn`: works, but later or less safely. `fail`: something does not work. */
export function checkOf(id: string, title: string) {
  const verdict =
    (kind: CheckVerdict) =>
    (what: string, ...fix: readonly string[]): Check => ({
      id,
      title,
      verdict: kind,
      what,
      fix: [...fix],
    });
  return {
    ok: verdict('ok'),
    warn: verdict('warn'),
    fail: verdict('fail'),
    skipped: verdict('skipped'),
  };
}
