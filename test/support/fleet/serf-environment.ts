/** The environment that Serf gives to the handler of the user event `update`, whole. */
export function serfEnvironment(configFile: string): Record<string, string> {
  return {
    PATH: '/usr/bin:/bin',
    P2P_UPDATE_CONFIG: configFile,
    SERF_EVENT: 'user',
    SERF_USER_EVENT: 'update',
    SERF_USER_LTIME: '7',
    SERF_SELF_NAME: 'node-1',
  };
}
