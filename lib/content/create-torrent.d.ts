// create-torrent has no types of its own; this is the part that lib/content/hash-content.ts calls.
declare module 'create-torrent' {
  import type { Readable } from 'node:stream';

  export default function createTorrent(
    input: Readable,
    options: { name: string; pieceLength: number; announceList: string[][] },
    callback: (error: Error | null, torrent?: Uint8Array) => void,
  ): void;
}
