import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

const spinner = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const turnMs = 80;

/** Output for a person: lines that stay, and on a terminal one last line that moves. */
export class Screen {
  readonly #out: NodeJS.WriteStream;
  readonly #isLive: boolean;
  readonly #isColoured: boolean;
  #status = '';
  #frame = 0;
  #wheel: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream, env: NodeJS.ProcessEnv) {
    this.#out = out;
    this.#isLive = out.isTTY && env['TERM'] !== 'dumb';
    this.#isColoured = this.#isLive && (env['NO_COLOR'] ?? '') === '';
  }

  /** Prints a line, above the moving one. */
  line(text = ''): void {
    this.#erase();
    this.#out.write(`${text}\n`);
    this.#draw();
  }

  heading(text: string): void {
    this.line();
    this.line(this.style('bold', text));
  }

  /** Prints an event on a node, some milliseconds after the beginning. */
  event(afterMs: number, node: string, text: string): void {
    this.line(`  ${this.style('dim', seconds(afterMs).padStart(7))}  ${node}  ${text}`);
  }

  /** Sets the moving line, whose wheel turns by itself; nothing where it cannot be seen. */
  status(text: string): void {
    if (!this.#isLive) return;
    this.#erase();
    this.#status = text;
    this.#draw();
    this.#wheel ??= setInterval(() => {
      this.#frame += 1;
      this.#erase();
      this.#draw();
    }, turnMs).unref();
  }

  clearStatus(): void {
    clearInterval(this.#wheel);
    this.#wheel = undefined;
    this.#erase();
    this.#status = '';
  }

  style(style: Style, text: string): string {
    return this.#isColoured ? styleText(style, text) : text;
  }

  #erase(): void {
    if (this.#status !== '') this.#out.write('\r\u001b[K');
  }

  #draw(): void {
    if (this.#status === '') return;
    const wheel = spinner[this.#frame % spinner.length] ?? '';
    const room = this.#out.columns - 1;
    this.#out.write(`  ${wheel} ${this.#status}`.slice(0, room));
  }
}

/** Milliseconds as seconds, to a hundredth: 1.25 s. */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(2)} s`;
}

/** Rows under a header, in columns as wide as they need; all but the first two are flushed right. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column < 2 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  '),
  );
  const rule = widths.map((width) => '─'.repeat(width)).join('──');
  return [lines[0] ?? '', rule, ...lines.slice(1)].map((line) => `  ${line}`);
}
