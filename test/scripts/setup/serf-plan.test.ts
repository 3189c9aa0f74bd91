import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  planSerf,
  serfFile,
  serfKeysFile,
  type SerfPlan,
  type SerfWish,
} from '../../../scripts/setup/serf-plan.ts';
import { refusal } from '../../support/run/refusal.ts';
import { repository } from '../../support/run/repository.ts';

const sample = JSON.parse(readFileSync(join(repository, 'serf.json'), 'utf8')) as Record<
  string,
  unknown
>;
const key = Buffer.alloc(32, 1).toString('base64');
const other = Buffer.alloc(32, 2).toString('base64');

const wish: SerfWish = {
  sample,
  bt: '51413',
  join: ['192.0.2.11'],
  gossipKey: null,
  nodeName: null,
  address: null,
  rpcAddress: '127.0.0.1:7373',
  rpcKey: undefined,
  makeKey: () => 'made',
};

/** Files of /etc/serf by their names: values, or text that is no JSON. */
type Files = Record<string, object | string>;

function plan(files: Files, change: Partial<SerfWish> = {}): SerfPlan {
  const texts = Object.fromEntries(
    Object.entries(files).map(([name, value]) => [
      `/etc/serf/${name}`,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  );
  return planSerf(
    { ...wish, ...change },
    { list: () => Object.keys(files).sort(), read: (path) => texts[path] },
  );
}

function written({ files }: SerfPlan, path: string): Record<string, unknown> {
  const text = files.find((file) => file.path === path)?.text;
  return JSON.parse(text ?? 'null') as Record<string, unknown>;
}

describe('planSerf', () => {
  it.each<[object, Partial<SerfWish>, boolean]>([
    [{}, {}, false],
    [{}, { address: '192.0.2.7' }, true],
    [{ advertise: '192.0.2.7' }, {}, true],
    [{ interface: 'eth1' }, {}, true],
    [{ bind: '192.0.2.7' }, {}, true],
    [{ bind: '[fd00::7]:7947' }, {}, true],
    [{ bind: '0.0.0.0' }, {}, false],
    [{ bind: '0.0.0.0:7947' }, {}, false],
    [{ bind: '[::]:7946' }, {}, false],
    [{ bind: ':7946' }, {}, false],
  ])('beside %j, wishing %j, tells the agent its address: %s', (file, change, isTold) => {
    expect(plan({ '00-site.json': file }, change).hasAddress).toBe(isTold);
  });

  it('writes the whole sample and new keys on a bare machine', () => {
    const made = plan({}, { nodeName: 'pi-07', address: '192.0.2.7' });
    expect(written(made, serfFile)).toEqual({
      ...sample,
      retry_join: ['192.0.2.11'],
      node_name: 'pi-07',
      advertise: '192.0.2.7',
    });
    expect(written(made, serfKeysFile)).toEqual({ encrypt_key: 'made', rpc_auth: 'made' });
    expect(made.files.map(({ ownership }) => ownership.mode)).toEqual([0o644, 0o640]);
  });

  it('changes no byte of what it has written before, whatever the order and spaces', () => {
    const first = plan({}, { gossipKey: key, rpcKey: 'mine' });
    const texts = Object.fromEntries(
      first.files.map(({ path, text }) => [
        path.slice('/etc/serf/'.length),
        JSON.stringify(JSON.parse(text)),
      ]),
    );
    const again = plan(texts, { gossipKey: key, join: null, makeKey: () => 'another' });
    expect(again.files.map(({ text }) => text)).toEqual(Object.values(texts));
    expect(again).toMatchObject({ gossipKey: key, rpcKey: 'mine' });
  });

  it('keeps what a person added to its file, and what a person chose', () => {
    const own = {
      event_handlers: [
        'user:deploy=/usr/local/bin/deploy',
        'user:update=/opt/old/p2p-update/dist/handlers/update.cjs',
      ],
      tags: { role: 'web', bt: '51413' },
      retry_join: ['node-1.example.net', 'pi-01'],
      retry_interval: '5s',
      log_level: 'debug',
    };
    const merged = written(plan({ '10-p2p-update.json': own }), serfFile);
    expect(merged).toMatchObject({
      tags: { role: 'web', bt: '51413' },
      retry_join: ['pi-01', '192.0.2.11'],
      retry_interval: '5s',
      log_level: 'debug',
      replay_on_join: true,
    });
    expect(merged['event_handlers']).toEqual([
      ...(sample['event_handlers'] as string[]),
      'user:deploy=/usr/local/bin/deploy',
    ]);
  });

  it('says nothing again that another file says', () => {
    const files: Files = {
      '00-site.json': {
        encrypt_key: key,
        rpc_auth: 'site',
        tags: { bt: '51413' },
        event_handlers: [(sample['event_handlers'] as string[])[0]],
        retry_join: ['192.0.2.11'],
        reconnect_timeout: '72h',
        snapshot_path: '/var/lib/serf/serf.snapshot',
      },
    };
    const made = plan(files);
    expect(made).toMatchObject({ gossipKey: key, rpcKey: 'site' });
    expect(made.files.map(({ path }) => path)).toEqual([serfFile]);
    const own = written(made, serfFile);
    expect(own).toMatchObject({ tags: {}, retry_join: [] });
    expect(own['event_handlers']).toHaveLength(3);
    expect(own).not.toHaveProperty('reconnect_timeout');
    expect(own).not.toHaveProperty('snapshot_path');
  });

  it('takes the gossip key of an invitation in place of the one that set-up has written', () => {
    const made = plan(
      { '20-p2p-update-keys.json': { encrypt_key: other, rpc_auth: 'mine' } },
      { gossipKey: key },
    );
    expect(written(made, serfKeysFile)).toEqual({ encrypt_key: key, rpc_auth: 'mine' });
  });

  it.each<[string, Files, Partial<SerfWish>, RegExp]>([
    ['a file that is not JSON', { '00-site.json': '{' }, {}, /00-site\.json is not a JSON object/],
    ['a list', { '00-site.json': '[]' }, {}, /is not a JSON object/],
    [
      'another gossip key of a person',
      { '20-keys.json': { encrypt_key: other } },
      { gossipKey: key },
      /"encrypt_key" in \S+20-keys\.json: it is not the gossip key of the fleet/,
    ],
    ['a keyring', { '00-site.json': { keyring_file: '/etc/serf/ring' } }, {}, /keyring_file/],
    [
      'a stop that leaves',
      { '00-site.json': { skip_leave_on_interrupt: false } },
      {},
      /"skip_leave_on_interrupt" in \S+: false must be true/,
    ],
    [
      'no replay, in its own file',
      { '10-p2p-update.json': { replay_on_join: false } },
      {},
      /"replay_on_join" in \S+10-p2p-update\.json: false must be true/,
    ],
    [
      'another RPC address',
      { '00-site.json': { rpc_addr: '0.0.0.0:7373' } },
      {},
      /"rpc_addr" .* must be "127\.0\.0\.1:7373"/,
    ],
    ['another port of Transmission', { '00-site.json': { tags: { bt: '1' } } }, {}, /"bt" must be/],
    [
      'the handler of another installation',
      { '00-site.json': { event_handlers: ['user:update=/srv/p2p-update/handlers/update.cjs'] } },
      {},
      /"event_handlers" in .* remove it/,
    ],
    ['the sample', { '00-site.json': { retry_join: ['node-2.example.net'] } }, {}, /the sample/],
    [
      'another name',
      { '00-site.json': { node_name: 'pi-01' } },
      { nodeName: 'pi-07' },
      /"node_name" .* must be "pi-07"/,
    ],
  ])('refuses %s, and names the file', (_, files, change, message) => {
    const error = refusal(() => plan(files, change));
    expect(error).toMatchObject({
      code: 'configuration',
      message: expect.stringMatching(message) as string,
      hint: expect.stringMatching(/editor '?\/etc\/serf\//) as string,
    });
    expect(error.message).not.toContain(other);
  });
});
