/** Starter of the daemons: systemd, Debian's init scripts, or nothing, as in an image. */
export type Manager = 'systemd' | 'init' | 'none';

/** The command that does something to a service, `restart` for one; none in an image. */
export function manage(
  manager: Manager,
  verb: 'start' | 'stop' | 'restart' | 'reload',
  service: string,
): string[] {
  switch (manager) {
    case 'systemd':
      return [`systemctl ${verb} ${service}`];
    case 'init':
      return [`service ${service} ${verb}`];
    case 'none':
      return [];
  }
}
