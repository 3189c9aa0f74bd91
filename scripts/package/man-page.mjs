/** Makes p2p-update(1) of the help texts. */

/** The man page, as text for man(7). */
export function manPage({ top, commands }, { version, time }) {
  const date = new Date(time * 1000).toISOString().slice(0, 10);
  const [about, ...rest] = top.blocks.filter(({ kind }) => kind === 'text');
  return `${[
    `.TH P2P\\-UPDATE 1 ${date} "p2p\\-update ${roff(version)}" "System administration"`,
    '.SH NAME',
    'p2p\\-update \\- spread updates over a fleet of machines without a server',
    '.SH SYNOPSIS',
    `.B p2p\\-update\n.I COMMAND\n.RI [ arguments ]`,
    '.SH DESCRIPTION',
    text(about.text),
    ...rest.flatMap((block) => ['.PP', text(block.text)]),
    ...commands.flatMap(({ name, summary }) => ['.TP', `.B ${roff(name)}`, text(summary)]),
    '.SH COMMANDS',
    ...commands.flatMap(({ name, usage, blocks }) => [
      `.SS ${roff(name)}`,
      '.nf',
      ...usage.map((line) => `.B ${roff(line)}`),
      '.fi',
      ...blocks.flatMap((block) => blockLines(block)),
    ]),
    '.SH FILES',
    ...files.flatMap(([path, about]) => ['.TP', `.I ${roff(path)}`, text(about)]),
    '.SH SEE ALSO',
    '.BR serf (1),\n.BR transmission\\-daemon (1),\n.BR puppet (8),\n.BR systemctl (1)',
    '.PP',
    text('The guides are in /usr/share/doc/p2p-update.'),
  ].join('\n')}\n`;
}

const files = [
  ['/etc/p2p-update/config.json', 'The configuration of this node.'],
  ['/etc/p2p-update/keyset.txt', 'The keys that may sign for the fleet, as keygen made them.'],
  [
    '/var/lib/p2p-update',
    'State: announcements, progress, and the modules that updates installed.',
  ],
  [
    '/usr/share/doc/p2p-update/examples',
    'Sample configuration of p2p-update, Serf and Transmission.',
  ],
];

function blockLines(block) {
  switch (block.kind) {
    case 'heading':
      return ['.PP', `.B ${roff(block.text)}`];
    case 'item':
      return ['.TP', `.B ${roff(block.term)}`, ...(block.text === '' ? [] : [text(block.text)])];
    default:
      return ['.PP', text(block.text)];
  }
}

/** Text without a meaning of its own to roff; a leading dot or quote would be a request. */
function text(line) {
  return roff(line).replace(/^[.']/, '\\&$&');
}

function roff(line) {
  return line.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('…', '...');
}
