import { connect } from 'node:net';

/**
 * Result of calling a BitTorrent port: `answered` a handshake; `connected` alone, which a peer without the
 * torrent closes again; `silent` when packets are swallowed.
 */
export type Reach = 'answered' | 'connected' | 'refused' | 'silent';

const protocol = Buffer.from('\x13BitTorrent protocol', 'latin1');

/**
 * Calls a peer, and begins a plain handshake of BEP 3 where there is an info hash. The peer id is never
 * sent: Transmission answers after the info hash (readHandshake in handshake.c), and a handshake that is
 * not finished adds no peer of a wrong port to its list.
 *
 * @param infoHash 40 hex digits of a torrent that the peer is likely to have; null: the connection counts
 */
export function callPeer(
  { address, port }: { address: string; port: number },
  infoHash: string | null,
  timeoutMs: number,
): Promise<Reach> {
  return new Promise((resolve) => {
    let reach: Reach = 'silent';
    let received = Buffer.alloc(0);
    const socket = connect({ host: address, port });
    const end = (result: Reach): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => {
      end(reach);
    }, timeoutMs);
    socket.on('connect', () => {
      reach = 'connected';
      if (infoHash === null) end(reach);
      else socket.write(Buffer.concat([protocol, Buffer.alloc(8), Buffer.from(infoHash, 'hex')]));
    });
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]).subarray(0, 68);
      if (received.length < 48) return;
      const isOurs =
        received.subarray(0, 20).equals(protocol) &&
        received.subarray(28, 48).toString('hex') === infoHash;
      end(isOurs ? 'answered' : 'connected');
    });
    socket.on('close', () => {
      end(reach === 'silent' ? 'refused' : reach);
    });
    socket.on('error', () => {
      end(reach === 'silent' ? 'refused' : reach);
    });
  });
}
