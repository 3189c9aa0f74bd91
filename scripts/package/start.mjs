/** `npm run package`: checks the Node that builds before anything of node_modules is read. */
import { hasNodeFor } from '../build/node-version.mjs';

if (hasNodeFor('package')) void import('./main.mjs');
