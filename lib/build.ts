declare const p2pUpdateBuildTime: number | undefined;

/**
 * When this software was built, in unix seconds; a clock before that is wrong. `npm run build` puts
 * it in; 0 when run from source.
 */
export const buildTime = typeof p2pUpdateBuildTime === 'number' ? p2pUpdateBuildTime : 0;
