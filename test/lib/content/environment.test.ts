import { describe, expect, test } from 'vitest';
import { planEnvironment } from '../../../lib/content/environment.ts';

const listing = (...files: string[]): Map<string, 'file' | 'directory'> => {
  const paths = new Map<string, 'file' | 'directory'>();
  for (const file of files) {
    const parts = file.split('/');
    for (let i = 1; i < parts.length; i += 1) paths.set(parts.slice(0, i).join('/'), 'directory');
    paths.set(file, 'file');
  }
  return paths;
};
const tree = listing(
  'manifests/site.pp',
  'manifests/zz_old.pp',
  'code/site.pp',
  'site/a',
  'top.pp',
);
const plan = (conf?: string, hiera?: string, files = tree) =>
  planEnvironment(files, { conf, hiera });

describe('environment.conf', () => {
  test.each<[string | undefined, string]>([
    [undefined, 'manifests'],
    ['# nothing\n\n[main]\n', 'manifests'],
    ['manifest = code/site.pp\nmodulepath = site:modules:$basemodulepath\n', 'code/site.pp'],
    ['manifest=./manifests/site.pp\r\n', 'manifests/site.pp'],
    ['  manifest = manifests/ \n', 'manifests'],
    ['manifest = top.pp', 'top.pp'],
    ['manifest = .', ''],
    ['modulepath = ./not-there:${basemodulepath}:site*', 'manifests'],
    ['environment_timeout = unlimited\nstatic_catalogs = false\nrich_data = true', 'manifests'],
    ['config_version =\n', 'manifests'],
  ])('is honoured: %j', async (conf, manifest) => {
    expect(await plan(conf)).toEqual({ manifest });
  });

  test.each<[string, RegExp]>([
    ['manifest = /etc/puppet/site.pp', /manifest = \/etc\/puppet\/site.pp, which is not inside/],
    ['manifest = ../site.pp', /not inside/],
    ['manifest = code/../../site.pp', /not inside/],
    ['manifest = $codedir/site.pp', /not inside/],
    ['manifest =', /not inside/],
    ['manifest = gone.pp', /manifest = gone.pp, which is not there/],
    ['manifest = "code/site.pp"', /which is not there/],
    ['manifest = site', /site\/ holds no \*\.pp/],
    ['modulepath = /opt/modules:$basemodulepath', /modulepath with "\/opt\/modules"/],
    ['modulepath = site:../shared', /"..\/shared"/],
    ['modulepath = $environmentpath/x/modules', /the node's own modules are \$basemodulepath/],
    ['modulepath = top.pp', /which is a file/],
    ['config_version = scripts/version.sh', /config_version, a command/],
    ['environment_data_provider = hiera', /environment_data_provider, which Puppet ignores/],
    ['manifests = code', /sets manifests, which Puppet ignores/],
    ['[agent]\nmanifest = code/site.pp', /line 1 of environment.conf is no setting/],
    ['manifest: code/site.pp', /line 1 of environment.conf is no setting/],
    ['manifest = top.pp\nmanifest = code/site.pp', /sets manifest twice/],
    ['\ufeffmanifest = top.pp', /byte-order mark/],
  ])('is refused: %j', async (conf, message) => {
    await expect(plan(conf)).rejects.toThrow(message);
    await expect(plan(conf)).rejects.toMatchObject({ code: 'malformed' });
  });

  test('has all its faults in one message', async () => {
    const refusal = plan('manifest = /a\nconfig_version = b\nc = d\n', 'version: 3\n');
    await expect(refusal).rejects.toThrow(/manifest = .*; .*config_version.*; .*sets c.*; .*hiera/);
  });
});

describe('the manifests of an environment', () => {
  test.each<[string[], RegExp]>([
    [['manifests/.gitkeep'], /holds no \*\.pp, so nothing would be applied/],
    [['manifests/.hidden.pp', 'manifests/.d/a.pp'], /holds no/],
    [['manifests/site.pp', 'manifests/NODES.PP'], /"manifests\/NODES.PP" is not read by Puppet/],
    [['data/common.yaml'], /no manifests\//],
  ])('are refused where Puppet would pass over them: %j', async (files, message) => {
    await expect(plan(undefined, undefined, listing(...files))).rejects.toThrow(message);
  });
});

describe('hiera.yaml', () => {
  test.each([
    'version: 5\nhierarchy: []\n',
    '---\n"version": "5"\n',
    'version: 4',
    ':version: 5',
    '{',
  ])('is taken: %j', async (hiera) => {
    expect(await plan(undefined, hiera)).toEqual({ manifest: 'manifests' });
  });

  test.each([
    '---\n:backends:\n  - yaml\n:yaml:\n  :datadir: data\n',
    'version: 3\n',
    ':version: 3\n',
    'hierarchy: []\n',
    '',
    '- a\n',
    'version: 6\n',
  ])('is refused, which Puppet ignores: %j', async (hiera) => {
    await expect(plan(undefined, hiera)).rejects.toThrow(/hiera.yaml .* must be version 5/);
  });
});
