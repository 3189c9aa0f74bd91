import { describe, expect, it } from 'vitest';
import { planProgramLink, programLink } from '../../../scripts/setup/program-link.ts';
import type { Found, Machine } from '../../../scripts/setup/rules.ts';

const target = '/opt/p2p-update/dist/p2p-update.cjs';
const directory: Found = { type: 'directory', uid: 0, gid: 0, mode: 0o755 };
const parents = { '/': directory, '/usr': directory, '/usr/local': directory };
const usual: Record<string, Found> = { ...parents, '/usr/local/bin': directory };

function plan(
  found: Record<string, Found>,
  { leadsTo = '', isReadOnly = false, packaged = '' } = {},
) {
  const machine: Machine = {
    users: new Map(),
    groups: new Map(),
    look: (path) => found[path],
    read: () => undefined,
    follow: (path) => {
      const leads = path === programLink ? leadsTo : path === '/usr/bin/p2p-update' ? packaged : '';
      return leads === '' ? undefined : leads;
    },
    isReadOnly: () => isReadOnly,
    list: () => [],
  };
  const { steps, followUps } = planProgramLink(target, machine);
  return { steps, commands: followUps.flatMap(({ commands }) => commands) };
}

describe('planProgramLink', () => {
  const link = { kind: 'make-link', path: programLink, target };

  it('links the program where PATH finds it', () => {
    expect(plan(usual)).toEqual({ steps: [link], commands: [] });
  });

  it('makes the directory where an image lacks it', () => {
    const { steps } = plan(parents);
    expect(steps).toMatchObject([{ kind: 'make-directory', path: '/usr/local/bin' }, link]);
  });

  it('leaves a link that is right already', () => {
    const found = { ...usual, [programLink]: { ...directory, type: 'link' as const } };
    expect(plan(found, { leadsTo: target })).toEqual({ steps: [], commands: [] });
  });

  it.each(['/opt/p2p-update/dist/p2p-update.cjs', '../../opt/p2p-update/dist/p2p-update.cjs'])(
    'makes none where the package has one, %s, and still names another program in the way',
    (packaged) => {
      expect(plan(usual, { packaged })).toEqual({ steps: [], commands: [] });
      const found = { ...usual, [programLink]: { ...directory, type: 'link' as const } };
      const commands = [`ln -sfn ${target} ${programLink}`];
      expect(plan(found, { packaged, leadsTo: '/elsewhere' })).toEqual({ steps: [], commands });
      expect(plan(usual, { packaged: '/elsewhere' }).steps).toEqual([link]);
    },
  );

  it.each(['file', 'link', 'directory'] as const)(
    'leaves a %s of that name, and lists the command to replace it',
    (type) => {
      const found = { ...usual, [programLink]: { ...directory, type } };
      const commands = [`ln -sfn ${target} ${programLink}`];
      expect(plan(found, { leadsTo: '/elsewhere' })).toEqual({ steps: [], commands });
    },
  );

  it('makes no link where others can replace it, or where the directory is read-only', () => {
    const open = { ...usual, '/usr/local': { ...directory, mode: 0o2775 } };
    const inFull = { steps: [], commands: [`${target} help`] };
    expect(plan(open)).toEqual(inFull);
    expect(plan(usual, { isReadOnly: true })).toEqual(inFull);
  });
});
