const width = 30;

/** What is counted: nothing is shown for fewer than `min`, and figures are multiples of `size`. */
export interface ProgressUnit {
  name: string;
  size: number;
  min: number;
}

const mebibytes: ProgressUnit = { name: 'MiB', size: 2 ** 20, min: 32 * 2 ** 20 };

/**
 * A progress bar on stderr for long work; silent for little work, and where nobody looks.
 *
 * @returns to be called with what is done and in total, in bytes unless `unit` says otherwise
 */
export function progressBar(
  label: string,
  unit = mebibytes,
): ((done: number, total: number) => void) | undefined {
  const { stderr } = process;
  if (!stderr.isTTY) return undefined;
  let shown = -1;
  return (done, total) => {
    const percent = Math.floor((done / total) * 100);
    if (total < unit.min || percent === shown) return;
    shown = percent;
    const filled = Math.round((percent / 100) * width);
    const bar = '#'.repeat(filled).padEnd(width, '.');
    const figure = (count: number): string => (count / unit.size).toFixed(0);
    stderr.write(`\r${label} [${bar}] ${figure(done)}/${figure(total)} ${unit.name}`);
    if (done === total) stderr.write('\n');
  };
}
