declare const p2pUpdateVersion: string | undefined;

/** The version of this software, as package.json has it; `npm run build` puts it in. */
export const softwareVersion = typeof p2pUpdateVersion === 'string' ? p2pUpdateVersion : 'source';
