import { check } from '../announcement/fields.ts';
import { UpdateError } from '../errors.ts';
import { isRecord } from '../system/json.ts';
import { printable } from '../system/printable.ts';

/** The parts of a proposal file, unverified: `parseProposal` checks them. */
export interface ProposalParts {
  /** Of the proposed key set. */
  text: string;
  /** Of the announcement: all bytes before the signatures. */
  body: Uint8Array;
  /** 64 bytes each, by signer id. */
  signatures: ReadonlyMap<string, Uint8Array>;
}

const format = 1;
const signatureBytes = 64;
/** Limit for reading; a key set of 5,600 characters and an announcement are well below it. */
const maxProposalChars = 32 * 1024;
/** Hint for a proposal that is not as `keys` wrote it. */
export const altered = 'get the file from its maker again, unchanged, or make a new one';

/** Formats a proposal as the text that is mailed or carried to its other signers. */
export function formatProposal({ text, body, signatures }: ProposalParts): string {
  const encode = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const entries = [...signatures].map(([id, signature]) => [id, encode(signature)] as const);
  const fields = {
    p2pUpdateKeyProposal: format,
    keySet: text,
    body: encode(body),
    signatures: Object.fromEntries(entries.sort()),
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/**
 * Parses a proposal file; nothing is verified.
 *
 * @throws UpdateError `malformed`
 */
export function readProposalFile(json: string): ProposalParts {
  check(json.length <= maxProposalChars, 'the proposal is too long to be one', altered);
  const fields = parseJson(json);
  const { p2pUpdateKeyProposal: number, keySet: text, body, signatures, ...others } = fields;
  check(
    Number.isInteger(number) && Number(number) > 0,
    'this file is not a proposal of p2p-update keys',
    'give the file that p2p-update keys add, remove or set wrote',
  );
  check(
    number === format,
    'the form of this proposal is not known here: newer software needed',
    'install the newer p2p-update on this machine',
  );
  const isWhole = typeof text === 'string' && typeof body === 'string' && isRecord(signatures);
  check(isWhole && Object.keys(others).length === 0, 'the proposal is damaged', altered);
  return {
    text,
    body: decodeStrictly(body),
    signatures: new Map(
      Object.entries(signatures).map(([id, signature]) => {
        const bytes = typeof signature === 'string' ? decodeStrictly(signature) : undefined;
        check(
          bytes?.length === signatureBytes,
          `the signature of "${printable(id)}" is damaged`,
          altered,
        );
        return [id, bytes];
      }),
    ),
  };
}

function parseJson(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    if (isRecord(value)) return value;
  } catch {
    // Text that is not JSON gets the same error.
  }
  throw new UpdateError('malformed', 'this file is not a proposal of p2p-update keys', {
    hint: 'give the file that p2p-update keys add, remove or set wrote',
  });
}

function decodeStrictly(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64url');
  check(bytes.toString('base64url') === text, 'the proposal is damaged', altered);
  return bytes;
}
