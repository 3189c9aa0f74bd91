/** What we use of create-torrent, which has no types of its own. */
declare module 'create-torrent' {
  import type { Readable } from 'node:stream';

  interface Options {
    name: string;
    /** Bytes. */
    pieceLength: number;
    /** Public trackers are added unless this is given. */
    announceList: string[][];
  }

  export default function createTorrent(
    input: Readable,
    options: Options,
    callback: (error: Error | null, torrent: Uint8Array) => void,
  ): void;
}
