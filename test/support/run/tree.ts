import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Writes files given as relative path to content; a path that ends in `/` is a directory. */
export function writeTree(top: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(top, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    const full = join(top, path);
    mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true });
    if (!path.endsWith('/')) writeFileSync(full, content);
  }
}

/** Everything below a directory: relative path to mode and content, sorted by path. */
export function readTree(top: string): Record<string, string> {
  const tree: Record<string, string> = {};
  for (const path of (readdirSync(top, { recursive: true }) as string[]).sort()) {
    const stats = statSync(join(top, path));
    const mode = (stats.mode & 0o7777).toString(8);
    const content = stats.isDirectory() ? 'directory' : readFileSync(join(top, path), 'utf8');
    tree[path] = `${mode} ${content}`;
  }
  return tree;
}
