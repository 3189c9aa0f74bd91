/**
 * Refuses a Node that is too old for the tools of the build, before one of them fails with words of its own.
 * Imports nothing: an import that an old Node cannot read would come first.
 *
 * @param program the program, for the message
 * @returns true when the build can go on
 */
export function hasNodeFor(program) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return true;
  process.stderr.write(
    `${program}: error: p2p-update needs Node 20.19 or newer, this is ${process.versions.node}\n` +
      `${program}: hint: install a newer Node, and have its directory first in PATH\n`,
  );
  // EX_UNAVAILABLE of sysexits.h: something that the program needs is missing.
  process.exitCode = 69;
  return false;
}
