import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

/** Answer of a member to a ping: `silent` where nothing accepts a connection. */
export type PingAnswer = 'same key' | 'other key' | 'silent';

/** Port of Serf's gossip, unless an address names another. */
export const gossipPort = 7946;

/** messageType, and the version of its encryption, in memberlist's net.go and security.go. */
const ping = 0;
const encrypted = 10;
const encryptionVersion = 1;

const headerBytes = 5;
const nonceBytes = 12;
const tagBytes = 16;
const maxReplyBytes = 65_536;

/** Splits `host`, `host:port`, `[ip6]:port` or a bare IPv6 address. */
export function splitAddress(address: string): { host: string; port: number } {
  const [, bracketed, plain, port] =
    /^(?:\[(.+)\]|([^:]+|.*:.*:.*?))(?::(\d+))?$/.exec(address) ?? [];
  return {
    host: bracketed ?? plain ?? address,
    port: port === undefined ? gossipPort : Number(port),
  };
}

/**
 * Pings a Serf agent as memberlist does it over TCP (handleConn in net.go), without becoming a member: shows
 * that it answers, and has the same gossip key.
 *
 * @param gossipKey `encrypt_key`, base64
 * @param timeoutMs for the whole of it
 * @param name a member of another name gives no answer, which counts as `other key`; empty: any member answers
 */
export function pingMember(
  address: string,
  gossipKey: string,
  timeoutMs: number,
  name = '',
): Promise<PingAnswer> {
  const key = Buffer.from(gossipKey, 'base64');
  const { host, port } = splitAddress(address);
  return new Promise((resolve) => {
    let isConnected = false;
    let reply = Buffer.alloc(0);
    const socket = connect({ host, port });
    const end = (answer: PingAnswer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => {
      end(isConnected ? 'other key' : 'silent');
    }, timeoutMs);
    socket.on('connect', () => {
      isConnected = true;
      socket.write(encrypt(key, pingMessage(name)));
    });
    socket.on('data', (bytes: Buffer) => {
      reply = Buffer.concat([reply, bytes]);
      if (reply.length > maxReplyBytes) end('other key');
      else if (isWhole(reply)) end(isOf(key, reply) ? 'same key' : 'other key');
    });
    socket.on('error', () => {
      end(isConnected ? 'other key' : 'silent');
    });
    socket.on('close', () => {
      end(isConnected ? 'other key' : 'silent');
    });
  });
}

/** A ping in MessagePack, a map of two. A node that is empty is any. */
function pingMessage(name: string): Buffer {
  // Strings of every version: fixstr below 32 bytes, else the form of 16 bits.
  const text = (word: string): Buffer => {
    const bytes = Buffer.from(word);
    const length =
      bytes.length < 32
        ? Buffer.of(0xa0 + bytes.length)
        : Buffer.of(0xda, bytes.length >> 8, bytes.length & 0xff);
    return Buffer.concat([length, bytes]);
  };
  return Buffer.concat([
    Buffer.of(ping, 0x82),
    text('SeqNo'),
    Buffer.of(1),
    text('Node'),
    text(name),
  ]);
}

/** Type and length, which are authenticated too; then version, nonce, cipher text and tag. */
function encrypt(key: Buffer, message: Buffer): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(encrypted);
  header.writeUInt32BE(1 + nonceBytes + message.length + tagBytes, 1);
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(cipherOf(key), key, nonce);
  cipher.setAAD(header);
  const body = Buffer.concat([cipher.update(message), cipher.final()]);
  return Buffer.concat([header, Buffer.of(encryptionVersion), nonce, body, cipher.getAuthTag()]);
}

function isWhole(reply: Buffer): boolean {
  if (reply.length > 0 && reply[0] !== encrypted) return true;
  return reply.length >= headerBytes && reply.length >= headerBytes + reply.readUInt32BE(1);
}

/** Whether a reply was encrypted with the key; its content does not matter. */
function isOf(key: Buffer, reply: Buffer): boolean {
  const nonceAt = headerBytes + 1;
  if (reply[0] !== encrypted || reply.length < nonceAt + nonceBytes + tagBytes) return false;
  const end = headerBytes + reply.readUInt32BE(1);
  const decipher = createDecipheriv(
    cipherOf(key),
    key,
    reply.subarray(nonceAt, nonceAt + nonceBytes),
  );
  decipher.setAAD(reply.subarray(0, headerBytes));
  decipher.setAuthTag(reply.subarray(end - tagBytes, end));
  decipher.update(reply.subarray(nonceAt + nonceBytes, end - tagBytes));
  try {
    decipher.final();
    return true;
  } catch {
    return false;
  }
}

function cipherOf(key: Buffer): 'aes-128-gcm' | 'aes-192-gcm' | 'aes-256-gcm' {
  return key.length === 16 ? 'aes-128-gcm' : key.length === 24 ? 'aes-192-gcm' : 'aes-256-gcm';
}
