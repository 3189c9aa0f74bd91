import { describe, expect, it } from 'vitest';
import {
  failureReason,
  whereItEnded,
  noopChanges,
  syntaxFault,
} from '../../../../lib/daemons/puppet/messages.ts';

/** The characters of a reason that a node's answer to `status` has room for. */
const answerChars = 80;

const compiled = 'Notice: Compiled catalog for pi in environment production in 0.02 seconds';
const applied = 'Notice: Applied catalog in 0.05 seconds';
const content = '/var/lib/p2p-update/apply/staging/web@0000001795359401/content';
const work = '/var/lib/p2p-update/apply/staging/web@0000001795359401/work/environments/production';
const roots = [content, work, '/etc/p2p-update/modules'];

/** Output of Puppet 7.23, without lines that are the same in all, and of paths with those of a node. */
const failures: [fault: string, output: string, reason: string][] = [
  [
    'a syntax error',
    `Error: Could not parse for environment production: Syntax error at 'content' (file: ${content}/web.pp, line: 3, column: 3) on node pi`,
    "Syntax error at 'content' (web.pp:3:3)",
  ],
  [
    'a syntax error in a module',
    "Error: Syntax error at '=>' (file: /etc/p2p-update/modules/foo/manifests/init.pp, line: 1, column: 31) on node pi",
    "Syntax error at '=>' (foo/manifests/init.pp:1:31)",
  ],
  [
    'several errors of validation',
    `Error: The operator '+=' is no longer supported. See http://links.puppet.com/remove-plus-equals (file: ${content}/web.pp, line: 3, column: 4)
Error: Classes, definitions, and nodes may only appear at toplevel or inside other classes (file: ${content}/web.pp, line: 4, column: 10)
Error: Language validation logged 2 errors. Giving up`,
    "The operator '+=' is no longer supported. See http://links.puppet.com/remove-plus-equals (web.pp:3:4)",
  ],
  [
    'an unknown function',
    `Error: Evaluation Error: Unknown function: 'stdlib::x'. (file: ${content}/web.pp, line: 1, column: 6) on node pi`,
    "Unknown function: 'stdlib::x'. (web.pp:1:6)",
  ],
  [
    'an unknown class, as of a module that is missing',
    `Error: Evaluation Error: Error while evaluating a Function Call, Could not find class ::nginx for pi (file: ${work}/manifests/site.pp, line: 1, column: 1) on node pi`,
    'Could not find class ::nginx for pi (manifests/site.pp:1:1)',
  ],
  [
    'an unknown resource type',
    `Error: Evaluation Error: Error while evaluating a Resource Statement, Unknown resource type: 'vcsrepo' (file: ${content}/web.pp, line: 1, column: 1) on node pi`,
    "Unknown resource type: 'vcsrepo' (web.pp:1:1)",
  ],
  [
    'an unknown variable, as Puppet 8 refuses it',
    `Error: Evaluation Error: Unknown variable: 'osfamily'. (file: ${content}/web.pp, line: 1, column: 15) on node pi`,
    "Unknown variable: 'osfamily'. (web.pp:1:15)",
  ],
  [
    'an argument of the wrong type',
    `Error: Evaluation Error: Error while evaluating a Resource Statement, Class[P]: parameter 'port' expects an Integer value, got String (file: ${content}/web.pp, line: 2, column: 1) on node pi`,
    "Class[P]: parameter 'port' expects an Integer value, got String (web.pp:2:1)",
  ],
  [
    'a duplicate declaration',
    `Error: Evaluation Error: Error while evaluating a Resource Statement, Duplicate declaration: File[/a] is already declared at (file: ${content}/web.pp, line: 1); cannot redeclare (file: ${content}/web.pp, line: 2) (file: ${content}/web.pp, line: 2, column: 1) on node pi`,
    'Duplicate declaration: File[/a] is already declared at (web.pp:1); cannot redeclare (web.pp:2:1)',
  ],
  [
    'a lookup without a value',
    "Error: Function lookup() did not find a value for the name 'no::such::key'",
    "Function lookup() did not find a value for the name 'no::such::key'",
  ],
  [
    'a hiera.yaml that is no YAML',
    `Error: Evaluation Error: Error while evaluating a Function Call, Lookup of key 'lookup_options' failed: (${work}/hiera.yaml): did not find expected '-' indicator while parsing a block collection at line 3 column 3 (file: ${work}/manifests/site.pp, line: 1, column: 6) on node pi`,
    "(hiera.yaml): did not find expected '-' indicator while parsing a block collection at line 3 column 3 (manifests/site.pp:1:6)",
  ],
  [
    'the manifest that gives up by itself',
    `Error: Evaluation Error: Error while evaluating a Function Call, this node has no disk for it (file: ${content}/web.pp, line: 1, column: 1) on node pi`,
    'this node has no disk for it (web.pp:1:1)',
  ],
  [
    'a parameter that no resource of the type has',
    `Error: no parameter named 'no_such_attr' (file: ${content}/web.pp, line: 1) on File[/a] (file: ${content}/web.pp, line: 1) on node pi`,
    "no parameter named 'no_such_attr' (web.pp:1) on File[/a] (web.pp:1)",
  ],
  [
    'a value that the type does not take',
    `${compiled}\nError: Parameter path failed on File[relative/path]: File paths must be fully qualified, not 'relative/path' (file: ${content}/web.pp, line: 1)`,
    "File[relative/path]: File paths must be fully qualified, not 'relative/path' (web.pp:1)",
  ],
  [
    'a dependency on a resource that is missing',
    `Error: Could not find resource 'File[/no/such]' in parameter 'require' (file: ${content}/web.pp, line: 1) on node pi`,
    "Could not find resource 'File[/no/such]' in parameter 'require' (web.pp:1)",
  ],
  [
    'dependency cycles',
    `${compiled}
Error: Found 2 dependency cycles:
(Notify[a] => Notify[b] => Notify[a])\\n(Notify[c] => Notify[d] => Notify[c])\\nTry the '--graph' option and opening the resulting '.dot' file in OmniGraffle or GraphViz
Error: Failed to apply catalog: One or more resource dependency cycles detected in graph`,
    'dependency cycle: Notify[a] => Notify[b] => Notify[a]; and 1 more',
  ],
  [
    'a function that raises an exception',
    `Error: Evaluation Error: Error while evaluating a Function Call, undefined method \`fetch' for nil:NilClass (file: ${content}/web.pp, line: 1, column: 6) on node pi`,
    "undefined method `fetch' for nil:NilClass (web.pp:1:6)",
  ],
  [
    'a Ruby library that is missing',
    'Error: Could not run: cannot load such file -- no/such/gem',
    'cannot load such file -- no/such/gem',
  ],
  [
    'want of memory',
    'Error: Could not run: failed to allocate memory',
    'failed to allocate memory',
  ],
  [
    'an exception that Puppet does not catch',
    `/usr/lib/ruby/vendor_ruby/puppet/environments.rb:40:in \`get!': Could not find a directory environment named 'staging' anywhere in the path: /etc/puppet/code/environments. Does the directory exist? (Puppet::Environments::EnvironmentNotFound)
	from /usr/lib/ruby/vendor_ruby/puppet/application_support.rb:34:in \`push_application_context'
	from /usr/bin/puppet:5:in \`<main>'`,
    "Could not find a directory environment named 'staging' anywhere in the path: /etc/puppet/code/environments. Does the directory exist? (Puppet::Environments::EnvironmentNotFound)",
  ],
  [
    'an exception of Ruby 3.4, after a warning and a notice',
    `/usr/lib/ruby/x.rb:1: warning: base64 is not part of the default gems\n${compiled}
/usr/lib/ruby/3.4.0/x.rb:7:in 'Kernel#require': cannot load such file -- syslog (LoadError)`,
    'cannot load such file -- syslog (LoadError)',
  ],
  [
    'an error of puppet.conf, which ends nothing, before the one that ends the run',
    `Error: Could not parse /etc/puppet/puppet.conf: Could not match line [main\n (file: /etc/puppet/puppet.conf, line: 1)
Error: Evaluation Error: Unknown function: 'x'. (file: ${content}/web.pp, line: 1, column: 6) on node pi`,
    "Unknown function: 'x'. (web.pp:1:6)",
  ],
  [
    'a custom fact that is broken, beside the error',
    `Error: Facter: Error while resolving custom fact fact='f', resolution='<anonymous>': bad fact
Error: Evaluation Error: Error while evaluating a Function Call, no f (file: ${content}/web.pp, line: 1, column: 1) on node pi`,
    'no f (web.pp:1:1)',
  ],
  [
    'a command that returned 1',
    `${compiled}
Notice: /Stage[main]/Main/Exec[migrate the database]/returns: connecting
Notice: /Stage[main]/Main/Exec[migrate the database]/returns: could not connect
Error: '/bin/sh -c "migrate"' returned 1 instead of one of [0]
Error: /Stage[main]/Main/Exec[migrate the database]/returns: change from 'notrun' to ['0'] failed: '/bin/sh -c "migrate"' returned 1 instead of one of [0]
${applied}`,
    'Exec[migrate the database]: returned 1: could not connect',
  ],
  [
    'a command that is secret',
    `Notice: /Stage[main]/Main/Exec[secret]/returns: [output redacted]
Error: [command redacted] returned 2 instead of one of [0,3]
Error: /Stage[main]/Main/Exec[secret]/returns: change from 'notrun' to ['0', '3'] failed: [command redacted] returned 2 instead of one of [0,3]`,
    'Exec[secret]: returned 2 instead of one of [0,3]: [output redacted]',
  ],
  [
    'a command that ran too long',
    `Error: Command exceeded timeout
Error: /Stage[main]/Main/Exec[/bin/sleep 20]/returns: change from 'notrun' to ['0'] failed: Command exceeded timeout`,
    'Exec[/bin/sleep 20]: Command exceeded timeout',
  ],
  [
    'a refresh that failed',
    `Error: /Stage[main]/Main/Exec[r]: Failed to call refresh: '/bin/false' returned 1 instead of one of [0]
Error: /Stage[main]/Main/Exec[r]: '/bin/false' returned 1 instead of one of [0]`,
    'Exec[r]: returned 1',
  ],
  [
    'a package that is not there',
    `Error: Execution of '/usr/bin/apt-get -q -y -o DPkg::Options::=--force-confold install ngnix' returned 100: Reading package lists...
Building dependency tree...
Reading state information...
E: Unable to locate package ngnix
Error: /Stage[main]/Main/Package[ngnix]/ensure: change from 'purged' to 'present' failed: Execution of '/usr/bin/apt-get -q -y -o DPkg::Options::=--force-confold install ngnix' returned 100: Reading package lists...
Building dependency tree...
Reading state information...
E: Unable to locate package ngnix
${applied}`,
    'Package[ngnix]: E: Unable to locate package ngnix',
  ],
  [
    'a user that cannot be made',
    `Error: /Stage[main]/Main/User[no such user]/ensure: change from 'absent' to 'present' failed: Could not create user no such user: Execution of '/usr/sbin/useradd -M no such user' returned 3: useradd: invalid user name 'no such user': use --badname to ignore`,
    "User[no such user]: useradd: invalid user name 'no such user': use --badname to ignore",
  ],
  [
    'a source that is missing',
    'Error: /Stage[main]/Main/File[/etc/motd]: Could not evaluate: Could not retrieve information from environment production source(s) puppet:///modules/nosuch/motd',
    'File[/etc/motd]: no source puppet:///modules/nosuch/motd',
  ],
  [
    'a directory that is missing',
    `Error: Could not set 'file' on ensure: No such file or directory - A directory component in /no/such/x.lock does not exist or is a dangling symbolic link (file: ${content}/web.pp, line: 1)
Wrapped exception:
No such file or directory - A directory component in /no/such/x.lock does not exist or is a dangling symbolic link
Error: /Stage[main]/Main/File[/no/such/x]/ensure: change from 'absent' to 'file' failed: Could not set 'file' on ensure: No such file or directory - A directory component in /no/such/x.lock does not exist or is a dangling symbolic link (file: ${content}/web.pp, line: 1)`,
    'File[/no/such/x]: No such file or directory - A directory component in /no/such/x.lock does not exist or is a dangling symbolic link (web.pp:1)',
  ],
  [
    'a service that systemd does not know',
    `Error: /Stage[main]/Main/Service[ngnix]/ensure: change from 'stopped' to 'running' failed: Could not find init script for 'ngnix'`,
    "Service[ngnix]: Could not find init script for 'ngnix'",
  ],
  [
    // The text is of systemd.rb (systemd_unit_error), the journal's of nginx.
    'a service that does not start',
    `Error: /Stage[main]/Nginx/Service[nginx]/ensure: change from 'stopped' to 'running' failed: Systemd start for nginx failed!
journalctl log for nginx:
Nov 27 10:00:00 pi systemd[1]: Starting nginx.service - A high performance web server...
Nov 27 10:00:00 pi nginx[812]: nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)
Nov 27 10:00:00 pi systemd[1]: Failed to start nginx.service.`,
    'Service[nginx]: Systemd start for nginx failed: nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)',
  ],
  [
    'a provider that lists nothing',
    `Error: Could not prefetch rbp provider 'x': cannot list
Warning: /Stage[main]/Main/Rbp[x]: Skipping because provider prefetch failed`,
    "Could not prefetch rbp provider 'x': cannot list",
  ],
  [
    'a provider that raises an exception',
    `Error: /Stage[main]/Main/Rbt[x]: Could not evaluate: undefined method \`fetch' for nil:NilClass

    def retrieve; nil.fetch(1); end
                     ^^^^^^`,
    "Rbt[x]: undefined method `fetch' for nil:NilClass",
  ],
  [
    'several resources, in classes and defined types, also in another stage',
    `Error: /Stage[setup]/Web/Exec[/bin/false]/returns: change from 'notrun' to ['0'] failed: '/bin/false' returned 1 instead of one of [0]
Notice: /Stage[main]/Main/File[/x]: Dependency Exec[/bin/false] has failures: true
Warning: /Stage[main]/Main/File[/x]: Skipping because of failed dependencies
Error: /Stage[main]/Web/Web::Site[shop]/File[/no/such/shop]/ensure: change from 'absent' to 'file' failed: Could not set 'file' on ensure: Is a directory (file: /etc/p2p-update/modules/web/manifests/site.pp, line: 1)
Error: /Stage[main]/Web/Web::Site[shop]/Exec[reload shop with a very long title that goes on]/returns: change from 'notrun' to ['0'] failed: '/bin/sh -c "exit 3"' returned 3 instead of one of [0]`,
    'Exec[/bin/false]: returned 1; also failed: File[/no/such/shop], Exec[reload shop with a very long ti...]',
  ],
  [
    'an archive that Puppet cannot unpack',
    `Error: Could not extract contents of module archive: Execution of 'gzip -dc ${content}/acme-x-1.0.0.tar.gz | tar xof -' returned 2: gzip: ${content}/acme-x-1.0.0.tar.gz: not in gzip format
tar: This does not look like a tar archive
tar: Exiting with failure status due to previous errors
Error: Try 'puppet help module install' for usage`,
    'gzip: acme-x-1.0.0.tar.gz: not in gzip format',
  ],
];

describe('the reason that a run of Puppet failed', () => {
  it.each(failures)('is, for %s, the fault itself', (_fault, output, reason) => {
    expect(failureReason(output, roots)).toBe(reason);
  });

  it.each(failures)('has, for %s, nothing of Puppet before it is cut', (_fault, output) => {
    const shown = failureReason(output, roots)?.slice(0, answerChars);
    expect(shown).not.toMatch(
      /Evaluation Error|Error while evaluating|Could not (parse|run|evaluate)|change from|p2p-update|on node/,
    );
  });

  it('is unknown for output without any', () => {
    expect(failureReason(`${compiled}\n${applied}\n`, roots)).toBeUndefined();
    expect(failureReason('', roots)).toBeUndefined();
  });

  it('is the status of a package tool that printed nothing', () => {
    const output = `Error: /Stage[main]/Main/Package[x]/ensure: change from 'purged' to 'present' failed: Execution of '/usr/bin/dnf -y install x' returned 1: `;
    expect(failureReason(output, roots)).toBe('Package[x]: /usr/bin/dnf returned 1');
  });
});

describe('the place where a run was ended', () => {
  const before = `${compiled}\nNotice: /Stage[main]/Main/Exec[first]/returns: executed successfully\n`;

  it('is after the last resource, or in the one that Puppet says failed', () => {
    expect(whereItEnded(before)).toBe('after Exec[first]');
    const killed = `Error: /Stage[main]/Main/Exec[hang]/returns: change from 'notrun' to ['0'] failed: '/bin/sleep 9' returned 143 instead of one of [0]`;
    expect(whereItEnded(`${before}${killed}\n`)).toBe('in Exec[hang]');
    expect(whereItEnded(compiled)).toBeUndefined();
  });
});

describe('a syntax error that puppet parser validate finds', () => {
  it.each<[string, unknown]>([
    [
      "Error: Could not parse for environment production: Syntax error at 'content' (file: /srv/.submit-X/web.pp, line: 3, column: 3)",
      { error: "Syntax error at 'content'", line: 3, column: 3 },
    ],
    [
      'Error: Could not parse for environment production: Syntax error at end of input (file: /srv/.submit-X/web (1).pp)',
      { error: 'Syntax error at end of input', line: null, column: null },
    ],
    [
      failures[2]?.[1] ?? '',
      {
        error:
          "The operator '+=' is no longer supported. See http://links.puppet.com/remove-plus-equals",
        line: 3,
        column: 4,
      },
    ],
  ])('%#: has its place, and not that of the copy', (output, fault) => {
    expect(syntaxFault(output)).toEqual(fault);
  });
});

describe('what a noop would change', () => {
  it('is listed for every stage, with what would be refreshed, and without values', () => {
    const output = `${compiled}
Notice: /Stage[setup]/Early/File[/early]/ensure: current_value 'absent', should be 'file' (noop)
Notice: Class[Early]: Would have triggered 'refresh' from 1 event
Notice: Stage[setup]: Would have triggered 'refresh' from 1 event
Notice: /Stage[main]/Main/File[/n: odd (noop)]/content: current_value 'secret
of two lines', should be 'other' (noop)
Notice: /Stage[main]/Main/D[shop]/Exec[r shop]: Would have triggered 'refresh' from 1 event
Notice: D[shop]: Would have triggered 'refresh' from 2 events
${applied}`;
    expect(noopChanges(output)).toEqual([
      'Stage[setup]/Early/File[/early]/ensure',
      'Main/File[/n: odd (noop)]/content',
      'Main/D[shop]/Exec[r shop] (refresh)',
    ]);
  });
});
