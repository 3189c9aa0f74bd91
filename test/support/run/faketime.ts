import { mustRun } from './command.ts';

/**
 * The environment that faketime(1) sets for a clock, under which the real programs are run.
 *
 * @param time `2030-01-31 06:00:00`, or a distance from now in days, such as -400
 */
export function clockOf(time: string | number): Record<string, string> {
  const at =
    typeof time === 'string'
      ? time
      : new Date(Date.now() + time * 86_400_000).toISOString().slice(0, 19);
  const script = 'printf "%s\\n%s" "$LD_PRELOAD" "$FAKETIME"';
  const printed = mustRun(['faketime', at, 'sh', '-c', script], {
    env: { PATH: '/usr/bin:/bin', TZ: 'UTC' },
  });
  const [preload = '', faketime = ''] = printed.split('\n');
  return { LD_PRELOAD: preload, FAKETIME: faketime, FAKETIME_DONT_FAKE_MONOTONIC: '1', TZ: 'UTC' };
}
