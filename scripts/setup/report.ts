import type { Ownership } from '../../lib/state/layout.ts';
import type { FollowUp } from './follow-ups.ts';
import type { SetupStep } from './plan.ts';
import { formatMode } from '../../lib/state/layout.ts';
import type { Found, Machine } from './rules.ts';
import { wakers } from './scheduler.ts';

/** One step as a row of the table: the action, its path, the result, and the reason. */
export interface StepRow {
  action: string;
  path: string;
  result: string;
  why: string;
}

/** Describes a step; `machine` gives ids their names. */
export function describeStep(step: SetupStep, machine: Machine): StepRow {
  switch (step.kind) {
    case 'add-user':
      return { action: 'add user', path: step.user, result: 'no shell, no home', why: 'missing' };
    case 'add-to-group':
      return { action: 'add to group', path: step.user, result: step.group, why: 'not a member' };
    case 'make-directory':
      return row('make', step.path, step.ownership, 'missing');
    case 'correct':
      return row('correct', step.path, step.ownership, `was ${describeFound(step.found, machine)}`);
    case 'write-file':
      return step.old !== undefined
        ? row('replace', step.path, step.ownership, 'its text differs')
        : row('write', step.path, step.ownership, 'missing');
    case 'write-settings':
      return {
        ...{ action: step.old === undefined ? 'write' : 'merge', path: step.path },
        ...{ result: step.user, why: step.old === undefined ? 'missing' : 'settings differ' },
      };
    case 'service':
      return {
        ...{ action: step.verb, path: step.verb === 'reload' ? 'systemd' : unitNames(step.units) },
        ...{ result: '', why: step.why },
      };
    case 'make-link':
      return { action: 'link', path: step.path, result: step.target, why: 'missing' };
  }
}

/** Units as a shell takes them; the four of p2p-update in one word, for the width of the table. */
function unitNames(units: readonly string[]): string {
  const others = units.filter((unit) => !wakers.includes(unit));
  const all = units.length - others.length === wakers.length;
  return all ? [...others, 'p2p-update-{advance,apply}.{path,timer}'].join(' ') : units.join(' ');
}

function row(
  action: string,
  path: string,
  { owner, group, mode }: Ownership,
  why: string,
): StepRow {
  return { action, path, result: `${owner}:${group} ${formatMode(mode)}`, why };
}

function describeFound({ uid, gid, mode }: Found, { users, groups }: Machine): string {
  const owner = [...users].find(([, user]) => user.uid === uid)?.[0] ?? uid;
  const group = [...groups].find(([, each]) => each.gid === gid)?.[0] ?? gid;
  return `${owner}:${group} ${formatMode(mode)}`;
}

/** The rows in columns, one line each. */
export function formatRows(rows: readonly StepRow[]): string {
  const width = (column: keyof StepRow): number => Math.max(...rows.map((r) => r[column].length));
  const [action, path, result] = [width('action'), width('path'), width('result')];
  return rows
    .map(
      (r) =>
        `${r.action.padEnd(action)}  ${r.path.padEnd(path)}  ${r.result.padEnd(result)}  ${r.why}\n`,
    )
    .join('');
}

/** The follow-ups as a numbered list, each with its commands; empty for none. */
export function formatFollowUps(followUps: readonly FollowUp[]): string {
  if (followUps.length === 0) return '';
  const items = followUps.map(
    ({ what, commands }, index) =>
      `${index + 1}. ${what}\n${commands.map((command) => `       ${command}\n`).join('')}`,
  );
  return `\nLeft to do:\n${items.join('')}`;
}
