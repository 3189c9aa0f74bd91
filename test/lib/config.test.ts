import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../lib/config.ts';

describe('parseConfig', () => {
  it('fills in every default, so that {} is a configuration', () => {
    const config = parseConfig('{}', 'config.json');
    expect(config).toMatchObject({ trigger: 'spool', allowUnsigned: false, channels: null });
    expect(config.puppet.timeoutSeconds).toBe(1800);
    expect(config.transmission.url).toMatch(/127\.0\.0\.1/);
  });

  it('keeps the given values beside the defaults of the same object', () => {
    const config = parseConfig('{"serf":{"timeoutSeconds":3},"channels":["lab"]}', 'config.json');
    expect(config.serf).toMatchObject({ timeoutSeconds: 3, command: 'serf' });
    expect(config.channels).toEqual(['lab']);
  });

  it.each([
    ['not JSON', '{', /not JSON/],
    ['a list', '[]', /must be a JSON object/],
    ['null', 'null', /must be a JSON object/],
    ['an unknown key', '{"stateDirr":"/x"}', /unknown key "stateDirr"/],
    ['an unknown key inside', '{"serf":{"adress":"x"}}', /unknown key "serf.adress"/],
    ['a relative path', '{"stateDir":"state"}', /"stateDir" must be an absolute path/],
    ['a path with NUL', '{"stateDir":"/a\\u0000"}', /"stateDir" must be an absolute path/],
    ['a wrong type', '{"allowUnsigned":"yes"}', /"allowUnsigned" must be true or false/],
    ['an unknown trigger', '{"trigger":"poll"}', /"trigger" must be one of spool, spawn/],
    ['a bad channel', '{"channels":["Lab"]}', /"channels\[0\]" must be a channel/],
    ['a fraction', '{"maxContentBytes":1.5}', /"maxContentBytes" must be a whole number/],
    ['a time-out of zero', '{"puppet":{"timeoutSeconds":0}}', /"puppet.timeoutSeconds" must be/],
    ['a scalar for an object', '{"puppet":7}', /"puppet" must be an object/],
    ['__proto__', '{"__proto__":{"trigger":"spawn"}}', /unknown key "__proto__"/],
  ])('refuses %s, and names it', (_, json, message) => {
    expect(() => parseConfig(json, '/etc/p2p-update/config.json')).toThrow(
      expect.objectContaining({
        code: 'configuration',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('names the file that is missing, and the variable that can name another', () => {
    expect(() => loadConfig({ P2P_UPDATE_CONFIG: '/nowhere/config.json' })).toThrow(
      expect.objectContaining({
        message: 'there is no configuration file /nowhere/config.json',
        hint: expect.stringContaining('P2P_UPDATE_CONFIG') as string,
      }),
    );
  });
});
