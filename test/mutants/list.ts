/** One replacement of text. */
export interface Edit {
  file: string;
  /** Occurs exactly once in the file. */
  find: string;
  replace: string;
}

/** A guard, how to break it, and the tests of which one has to notice. */
export interface Mutant extends Edit {
  name: string;
  /** The second place, of a guard that stands twice. */
  also?: Edit;
  /** The fewest and quickest tests that know the guard. */
  tests: readonly string[];
}

const unit = (name: string): string => `test/lib/${name}.test.ts`;
const attack = (name: string): string => `test/attacks/${name}.test.ts`;

export const mutants: readonly Mutant[] = [
  {
    name: 'skip the signature',
    file: 'lib/trust/verify.ts',
    find: 'if (signature === undefined || !isGoodSignature(message, key, signature))',
    replace: 'if (signature === undefined)',
    tests: [attack('corrupted-extra-signature')],
  },
  {
    name: 'skip the threshold',
    file: 'lib/trust/verify.ts',
    find: 'if (keys.length < threshold)',
    replace: 'if (keys.length < 1)',
    tests: [attack('key-compromise')],
  },
  {
    name: 'let a signer leave its channels',
    file: 'lib/trust/verify.ts',
    find: 'if (channels !== null && !channels.includes(announcement.channel))',
    replace: 'if (channels !== null && channels.length === 0)',
    tests: [attack('key-compromise')],
  },
  {
    name: 'accept a change of the root keys by a release key',
    file: 'lib/trust/verify.ts',
    find: "if (kind !== 'keyset')\n    return { role: 'release'",
    replace: "if (kind === kind)\n    return { role: 'release'",
    tests: [attack('key-compromise')],
  },
  {
    name: 'skip the fleet',
    file: 'lib/trust/verify.ts',
    find: "hash('sha256', fleet, 'buffer')",
    replace: "hash('sha256', fleet.slice(0, 0), 'buffer')",
    tests: [unit('trust/verify')],
  },
  {
    name: 'skip the epoch of an announcement',
    file: 'lib/trust/verify.ts',
    find: 'if (announcement.epoch > keySet.epoch)',
    replace: 'if (announcement.epoch > keySet.epoch + 9)',
    tests: [attack('key-compromise')],
  },
  {
    name: 'accept points of small order',
    file: 'lib/trust/ed25519.ts',
    find: "return smallOrderYs.includes(y) ? 'a point of small order' : undefined;",
    replace: 'return undefined;',
    tests: [unit('trust/verify')],
  },
  {
    name: 'accept a second form of a signature',
    file: 'lib/trust/ed25519.ts',
    find: 'if (pointFault(r) !== undefined || bigEndianHex(s) >= groupOrder) return false;',
    replace: 'if (bigEndianHex(s) === bigEndianHex(r)) return false;',
    tests: [unit('trust/verify')],
  },
  {
    name: 'skip the canonical check of the text',
    file: 'lib/announcement/codec.ts',
    find: "bytes.toString('base64url') === text,",
    replace: 'bytes.length > 0,',
    tests: [unit('announcement/codec')],
  },
  {
    name: 'skip the canonical check of the bytes',
    file: 'lib/announcement/codec.ts',
    find: 'check(canonical.equals(body)',
    replace: 'check(canonical.length > 0 || canonical.equals(body)',
    also: {
      file: 'lib/announcement/codec.ts',
      find: 'checkKnown((flags & ~(flagNoop | flagRerun)) === 0,',
      replace: 'checkKnown(flags >= 0,',
    },
    tests: [unit('announcement/codec')],
  },
  {
    name: 'allow trailing bytes',
    file: 'lib/announcement/codec.ts',
    find: 'check(spare === 0,',
    replace: 'check(spare >= 0,',
    tests: [unit('announcement/codec')],
  },
  {
    name: 'skip the version check of the handler',
    file: 'lib/state/decide.ts',
    find: 'if (version <= mark)',
    replace: 'if (version <= 0)',
    tests: [unit('state/decide')],
  },
  {
    name: 'skip the version check of the apply side',
    file: 'lib/reconciler/apply/outcomes.ts',
    find: 'filter((id) => id.version > update.version)',
    replace: 'filter((id) => id.version < 0)',
    tests: [attack('rollback-and-replay')],
  },
  {
    name: 'let an announcement for others move the mark',
    file: 'lib/state/high-water-mark.ts',
    find: "return other.role === 'active' || (other.role === 'noop' && offer.role === 'noop');",
    replace: 'return true;',
    tests: [attack('rollback-and-replay')],
  },
  {
    name: 'bring back what a revoked update had superseded',
    file: 'lib/state/candidates.ts',
    find: "else if (update instanceof UpdateError || update.kind !== 'withdraw')",
    replace:
      "else if (update instanceof UpdateError) continue;\n    else if (update.kind !== 'withdraw')",
    tests: [attack('key-compromise')],
  },
  {
    name: 'do not verify again before apply',
    file: 'lib/state/held.ts',
    find: 'verifyOffer(offer, config, keySet);',
    replace: "if (offer.text === '') verifyOffer(offer, config, keySet);",
    tests: [attack('key-compromise')],
  },
  {
    name: 'skip equivocation',
    file: 'lib/state/decide.ts',
    find: "if (stored === 'other')",
    replace: "if (stored === 'other' && version < 0)",
    tests: [unit('state/decide')],
  },
  {
    name: 'skip the version step',
    file: 'lib/state/decide.ts',
    find: 'if (version > Math.max(mark, nowSeconds) + maxVersionStep)',
    replace: 'if (version > Number.MAX_SAFE_INTEGER)',
    tests: [unit('state/decide')],
  },
  {
    name: 'skip the expiry at acceptance',
    file: 'lib/state/decide.ts',
    find: 'if (input.expires !== null && input.expires <= nowSeconds)',
    replace: 'if (input.expires !== null && input.expires <= 0)',
    tests: [unit('state/decide')],
  },
  {
    name: 'skip the expiry before apply',
    file: 'lib/reconciler/apply/staging.ts',
    find: 'if (isExpired(update, deps.nowSeconds()))',
    replace: 'if (isExpired(update, 0))',
    also: {
      file: 'lib/reconciler/apply/apply-one.ts',
      find: "if (outcome.state === 'STAGED' && isExpired(update, deps.nowSeconds()))",
      replace: "if (outcome.state === 'STAGED' && isExpired(update, 0))",
    },
    tests: [attack('expired-updates')],
  },
  {
    name: 'believe a clock of 1970',
    file: 'lib/state/decide.ts',
    find: 'if (nowSeconds < input.buildTime)',
    replace: 'if (nowSeconds < 0)',
    tests: [unit('state/decide')],
  },
  {
    name: 'believe a creation in the future',
    file: 'lib/state/decide.ts',
    find: 'if (input.created > nowSeconds + maxClockLeadSeconds)',
    replace: 'if (input.created > 2 ** 40)',
    tests: [unit('state/decide')],
  },
  {
    name: 'skip the target',
    file: 'lib/state/high-water-mark.ts',
    find: 'if (!matchesTarget(target, channel, identityOf(config)))',
    replace: 'if (target === channel && !matchesTarget(target, channel, identityOf(config)))',
    tests: [attack('rollback-and-replay')],
  },
  {
    name: 'apply what was withdrawn',
    file: 'lib/state/candidates.ts',
    find: "else newest = { id, state: 'WITHDRAWN', reason: `withdrawn by version ${id.version}` };",
    replace: 'else continue;',
    tests: [attack('withdrawn-updates')],
  },
  {
    name: 'take bare torrents without a signature',
    file: 'lib/trust/verify.ts',
    find: 'if (!allowUnsigned)',
    replace: 'if (allowUnsigned === null)',
    tests: [attack('forged-events')],
  },
  {
    name: 'skip the hash of the content',
    file: 'lib/content/copy-verified.ts',
    find: 'return check.matches() ? undefined :',
    replace: 'return check.matches() !== null ? undefined :',
    tests: [unit('content/copy-verified')],
  },
  {
    name: 'read more than was announced',
    file: 'lib/content/copy-verified.ts',
    find: 'if (length > update.length) return',
    replace: 'if (length > update.length * 1000) return',
    tests: [attack('staged-path-is-a-link-or-device'), attack('swap-between-check-and-use')],
  },
  {
    name: 'follow links',
    file: 'lib/content/copy-verified.ts',
    find: 'constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK',
    replace: 'constants.O_RDONLY | constants.O_NONBLOCK',
    tests: [unit('content/copy-verified')],
  },
  {
    name: 'apply from the download directory',
    file: 'lib/reconciler/apply/apply-one.ts',
    find: 'contentPath: copy,',
    replace: 'contentPath: `${config.downloadDir}/${update.sha256?.slice(0, 32)}-${update.name}`,',
    tests: [attack('swap-between-check-and-use')],
  },
  {
    name: 'fall back to an older key set',
    file: 'lib/state/key-chain.ts',
    find: 'if (link === undefined)',
    replace: 'if (link === undefined) return first;\n  if (link === null)',
    tests: [attack('key-compromise')],
  },
  {
    name: 'take up a key set of another fleet or epoch',
    file: 'lib/reconciler/apply/install.ts',
    find: 'if (next.fleet !== current.fleet || !isNext)',
    replace: 'if (next.fleet === text && !isNext)',
    tests: [attack('key-compromise')],
  },
  {
    name: 'trust paths that a lesser user can write',
    file: 'lib/reconciler/apply/ownership.ts',
    find: 'if (isForeign || isOpen)',
    replace: "if (isForeign && isOpen && each === '')",
    tests: ['test/lib/reconciler/apply/ownership.test.ts'],
  },
  {
    name: 'unpack without a limit',
    file: 'lib/content/archive.ts',
    find: 'if (bytesLeft < 0)',
    replace: 'if (bytesLeft < -(2 ** 50))',
    tests: [unit('content/archive')],
  },
  {
    name: 'unpack entries without a limit',
    file: 'lib/content/archive.ts',
    find: 'if (Math.max(entries, listing.size) > limits.maxEntries)',
    replace: 'if (entries > 2 ** 50)',
    tests: [unit('content/archive')],
  },
  {
    name: 'ask the Forge for what a module needs',
    file: 'lib/daemons/puppet/install-module.ts',
    find: "'--ignore-dependencies', // else it asks the Forge",
    replace: "'--verbose',",
    tests: [attack('forge-is-never-contacted')],
  },
  {
    name: 'queue content of any size',
    file: 'lib/state/decide.ts',
    find: 'if (input.isForUs && input.length > input.maxContentBytes)',
    replace: 'if (input.isForUs && input.length > 2 ** 60)',
    tests: [unit('state/decide')],
  },
  {
    name: 'believe what the metadata says',
    file: 'lib/reconciler/advance/next-step.ts',
    find: 'const fault = torrent.hasMetadata ? metadataFault(update, torrent) : undefined;',
    replace: 'const fault = torrent.hasMetadata ? undefined : undefined;',
    tests: [unit('reconciler/advance/next-step')],
  },
  {
    name: 'let markers keep root busy',
    file: 'lib/state/markers.ts',
    find: 'scanned < maxScanned && names.length < maxListed;',
    replace: 'scanned < maxScanned;',
    tests: [attack('marker-and-channel-floods')],
  },
];
