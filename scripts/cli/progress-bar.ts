const width = 30;

/** Unit of the figures, which are multiples of `size`; a total below `min` shows no bar. */
export interface ProgressUnit {
  name: string;
  size: number;
  min: number;
}

const mebibytes: ProgressUnit = { name: 'MiB', size: 2 ** 20, min: 32 * 2 ** 20 };

/**
 * A progress bar on stderr for long work; silent for little work, and where stderr is no terminal.
 *
 * @returns a function of the amounts done and in total, in bytes unless `unit` counts something else
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
