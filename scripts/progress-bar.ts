const width = 30;
const minBytes = 32 * 2 ** 20;

/**
 * A progress bar on stderr for work on many bytes; silent for little work, and where nobody looks.
 *
 * @returns to be called with bytes done and in total
 */
export function progressBar(label: string): ((done: number, total: number) => void) | undefined {
  const { stderr } = process;
  if (!stderr.isTTY) return undefined;
  let shown = -1;
  return (done, total) => {
    const percent = Math.floor((done / total) * 100);
    if (total < minBytes || percent === shown) return;
    shown = percent;
    const filled = Math.round((percent / 100) * width);
    const bar = '#'.repeat(filled).padEnd(width, '.');
    const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
    stderr.write(`\r${label} [${bar}] ${mebibytes(done)}/${mebibytes(total)} MiB`);
    if (done === total) stderr.write('\n');
  };
}
