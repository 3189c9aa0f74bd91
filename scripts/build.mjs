/** `npm run build`: checks the Node that builds before anything of node_modules is read. */
import { hasNodeFor } from './build/node-version.mjs';

// No await at the top, which is a syntax error to the Node of Debian 11.
if (hasNodeFor('build')) void import('./build/main.mjs');
