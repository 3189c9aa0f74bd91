import { hostname } from 'node:os';
import type { Check, CheckVerdict } from '../../lib/health/check.ts';
import { asciiOnly } from '../../lib/system/printable.ts';

const words: Record<CheckVerdict, string> = {
  ok: 'ok',
  warn: 'warn',
  fail: 'FAIL',
  skipped: 'skip',
};

/** Exit status: 2 with a failure, 1 with warnings alone, else 0; what was skipped counts for nothing. */
export function doctorStatus(checks: readonly Check[]): 0 | 1 | 2 {
  if (checks.some(({ verdict }) => verdict === 'fail')) return 2;
  return checks.some(({ verdict }) => verdict === 'warn') ? 1 : 0;
}

/** One line for each check, with the commands that mend it, and a line for all of them; ASCII. */
export function doctorLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ title }) => title.length));
  const lines = checks.map(({ title, verdict, what, fix }) => {
    const text = `${words[verdict].padEnd(4)}  ${title.padEnd(width)}  ${what}`;
    return fix.length === 0 ? text : `${text}: ${fix.join(' && ')}`;
  });
  const counts = (['ok', 'warn', 'fail', 'skipped'] as const).map((verdict) => {
    const count = checks.filter((check) => check.verdict === verdict).length;
    return `${count} ${verdict === 'skipped' ? 'skipped' : words[verdict]}`;
  });
  return [...lines, counts.join(', ')].map(asciiOnly);
}

/** The object of --json (docs/doctor.md). */
export function doctorJson(checks: readonly Check[], nodeName: string | null) {
  return {
    node: nodeName ?? hostname(),
    exitStatus: doctorStatus(checks),
    checks: checks.map(({ id, title, verdict, what, fix }) => ({ id, title, verdict, what, fix })),
  };
}
