import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../lib/config.ts';
import {
  planTransmission,
  type TransmissionWish,
} from '../../../scripts/setup/transmission-plan.ts';
import { refusal } from '../../support/run/refusal.ts';
import { repository } from '../../support/run/repository.ts';

const sample = JSON.parse(
  readFileSync(join(repository, 'docs/transmission-settings.json'), 'utf8'),
) as Record<string, unknown>;
const settingsFile = '/etc/transmission-daemon/settings.json';
const hook = '/etc/p2p-update/transmission-done';
const hash = (password: string): string =>
  `{${createHash('sha1').update(password).update('abcdefgh').digest('hex')}abcdefgh`;

/** As Debian's package installs it: 0 and 1 for false and true. */
const debian = {
  'blocklist-enabled': 0,
  'download-dir': '/var/lib/transmission-daemon/downloads',
  encryption: 1,
  'peer-port': 51413,
  'pex-enabled': 1,
  'port-forwarding-enabled': 0,
  'rpc-authentication-required': 1,
  'rpc-password': 'transmission',
  'rpc-port': 9091,
  'rpc-username': 'transmission',
  'rpc-whitelist': '127.0.0.1',
};
const ours = { username: 'p2p-update', password: 'made' };

function plan(settings: object | string | undefined, change: Partial<TransmissionWish> = {}) {
  const written = change.written ?? {};
  return planTransmission({
    sample,
    settings: typeof settings === 'object' ? JSON.stringify(settings) : settings,
    settingsFile,
    credentials: undefined,
    credentialsFile: '/etc/p2p-update/transmission.json',
    config: parseConfig(JSON.stringify(written), 'config.json'),
    written,
    hook,
    makePassword: () => 'made',
    ...change,
  });
}

const settingsOf = (planned: ReturnType<typeof plan>): Record<string, unknown> =>
  JSON.parse(planned.settings ?? 'null') as Record<string, unknown>;

describe('planTransmission', () => {
  it('merges the sample into what Debian installs, with a new password', () => {
    const planned = plan(debian);
    expect(settingsOf(planned)).toEqual({
      ...debian,
      ...sample,
      // 0 says the same.
      'port-forwarding-enabled': 0,
      'pex-enabled': 1,
      'rpc-authentication-required': 1,
      'rpc-username': 'p2p-update',
      'rpc-password': 'made',
    });
    expect(planned).toMatchObject({ credentials: ours, config: {}, peerPort: 51413 });
  });

  it('writes the whole sample where there is nothing', () => {
    expect(settingsOf(plan(undefined))).toEqual({ ...sample, 'rpc-password': 'made' });
  });

  it('changes nothing once the daemon has written its settings, with the hash of the password', () => {
    const after = { ...settingsOf(plan(debian)), 'rpc-password': hash('made'), 'alt-speed-up': 50 };
    const again = plan(after, {
      credentials: JSON.stringify(ours),
      makePassword: () => 'another',
    });
    expect(again).toMatchObject({ settings: null, credentials: ours });
  });

  it('finishes what an interrupted run began: the credentials are there, the settings not', () => {
    const planned = plan(
      { ...debian, 'rpc-password': hash('transmission') },
      {
        credentials: JSON.stringify({ username: 'p2p-update', password: 'before' }),
      },
    );
    expect(settingsOf(planned)).toMatchObject({ 'rpc-password': 'before' });
  });

  it("keeps a person's ports, directory, limits and addresses, and tells the rest of the node", () => {
    const planned = plan({
      ...debian,
      'download-dir': '/srv/torrents',
      'peer-port': 50000,
      'rpc-port': 9999,
      'rpc-username': 'alice',
      'rpc-whitelist': '192.0.2.*',
      'rpc-bind-address': '0.0.0.0',
      'speed-limit-up': 100,
      'upload-slots-per-torrent': 20,
    });
    expect(settingsOf(planned)).toMatchObject({
      'download-dir': '/srv/torrents',
      'peer-port': 50000,
      'rpc-port': 9999,
      'rpc-username': 'alice',
      'rpc-whitelist': '127.0.0.1,192.0.2.*',
      'rpc-bind-address': '0.0.0.0',
      'speed-limit-up': 100,
      'upload-slots-per-torrent': 20,
      'script-torrent-done-filename': hook,
    });
    expect(planned).toMatchObject({
      config: {
        downloadDir: '/srv/torrents',
        transmission: { url: 'http://127.0.0.1:9999/transmission/rpc' },
      },
      peerPort: 50000,
    });
  });

  it("uses a person's own password where transmission.json has it", () => {
    const credentials = JSON.stringify({ username: 'alice', password: 'secret' });
    const planned = plan(
      { ...debian, 'rpc-username': 'alice', 'rpc-password': hash('secret') },
      { credentials },
    );
    expect(settingsOf(planned)).toMatchObject({
      'rpc-username': 'alice',
      'rpc-password': hash('secret'),
    });
  });

  it('closes the RPC to other machines where nobody has opened it to them', () => {
    const planned = plan({ ...debian, 'rpc-bind-address': '0.0.0.0' });
    expect(settingsOf(planned)).toMatchObject({ 'rpc-bind-address': '127.0.0.1' });
  });

  it.each<[string, object | string, Partial<TransmissionWish>, RegExp]>([
    ['text that is not JSON', '{', {}, /settings\.json is not a JSON object/],
    ['a list', '[]', {}, /settings\.json is not a JSON object/],
    [
      "a person's hook",
      {
        ...debian,
        'script-torrent-done-enabled': true,
        'script-torrent-done-filename': '/usr/local/bin/done',
      },
      {},
      /\/usr\/local\/bin\/done is a hook of your own/,
    ],
    [
      "a person's password",
      { ...debian, 'rpc-password': hash('secret') },
      {},
      /is a password of your own/,
    ],
    [
      'a password that is not the one of transmission.json',
      { ...debian, 'rpc-password': hash('secret') },
      { credentials: JSON.stringify(ours) },
      /is not the one in \/etc\/p2p-update\/transmission\.json/,
    ],
    [
      'credentials that cannot be read',
      debian,
      { credentials: '{"user":"p2p-update"}' },
      /transmission\.json is not/,
    ],
    [
      'an RPC on another address',
      { ...debian, 'rpc-bind-address': '192.0.2.7' },
      {},
      /talks to 127\.0\.0\.1/,
    ],
    [
      'a port that config.json contradicts',
      { ...debian, 'rpc-port': 9999 },
      { written: { transmission: { url: 'http://127.0.0.1:9091/transmission/rpc' } } },
      /transmission\.url of config\.json is/,
    ],
    [
      'a directory that config.json contradicts',
      { ...debian, 'download-dir': '/srv/a' },
      { written: { downloadDir: '/srv/b' } },
      /downloadDir of config\.json is \/srv\/b/,
    ],
  ])('refuses %s', (_, settings, change, message) => {
    const error = refusal(() => plan(settings, change));
    expect(error).toMatchObject({
      code: 'configuration',
      message: expect.stringMatching(message) as string,
    });
    expect(`${error.message}${error.hint}`).not.toContain('secret');
  });
});
