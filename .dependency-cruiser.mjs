/**
 * The order of the folders, bottom to top (docs/architecture.md): a file imports files of its own folder
 * and of the rows below it, never of a row above or of another folder in its own row.
 * `npm run check:static` holds it.
 */
const rows = [
  ['lib/errors.ts', 'lib/build.ts'],
  ['lib/command-hint.ts'],
  ['lib/system/', 'lib/announcement/'],
  ['lib/content/', 'lib/config.ts'],
  ['lib/trust/', 'lib/daemons/', 'lib/wake.ts', 'lib/handler.ts'],
  ['lib/state/'],
  ['lib/health/'],
  ['lib/query/'],
  ['lib/reconciler/', 'lib/submit/'],
  ['handlers/', 'scripts/'],
  ['test/'],
];
const pattern = (paths) => paths.map((path) => `^${path.replaceAll('.', '\\.')}`);
const beside = (row, index) =>
  rows[row].filter((_, other) => other !== index).concat(rows.slice(row + 1).flat());

export default {
  forbidden: [
    {
      name: 'no-circles',
      comment: 'Files that import each other, types included, cannot be read one after the other.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    ...rows.flatMap((row, number) =>
      row.flatMap((folder, index) => {
        const forbidden = beside(number, index);
        return forbidden.length === 0
          ? []
          : {
              name: `order-of-${folder}`,
              comment: `${folder} may import its own files and the rows below it alone.`,
              severity: 'error',
              from: { path: pattern([folder]) },
              to: { path: pattern(forbidden) },
            };
      }),
    ),
    {
      name: 'has-a-row',
      comment: 'A new file of lib/ stands in one of the folders, or has a row in this file.',
      severity: 'error',
      from: { path: '^lib/', pathNot: pattern(rows.flat()) },
      to: {},
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
