// The published names of addresses, from npm packages, policy.yaml and address_names.json, for
// build_chain_data.mjs. Where two sources name one address, the first one listed here counts.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const UNISWAP = { package: "@uniswap/sdk-core", version: "7.19.4" };
const COW = { package: "@cowprotocol/sdk-config", version: "2.4.0" };
const BALANCER = { package: "@balancer/sdk", version: "6.1.1" };
const CURVE = { package: "@curvefi/api", version: "2.65.13" };
const MORPHO = { package: "@morpho-org/blue-sdk", version: "6.4.0" };
const MORPHO_TS = { package: "@morpho-org/morpho-ts", version: "2.8.0" }; // Morpho's imports it
const WORMHOLE = { package: "@wormhole-foundation/sdk-base", version: "6.1.5" };
const HOP = { package: "@hop-protocol/core", version: "0.0.1-beta.236" };
const ARBITRUM = { package: "@arbitrum/sdk", version: "4.1.0" };
const AXELAR = { package: "@axelar-network/axelar-chains-config", version: "1.3.0" };
const BEEFY = { package: "@beefyfinance/blockchain-addressbook", version: "0.59.18" };
export const SOURCES = [UNISWAP, COW, BALANCER, CURVE, MORPHO, WORMHOLE, HOP, ARBITRUM, AXELAR,
  BEEFY];
export const INSTALLED = [...SOURCES, MORPHO_TS];

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const POLICY = "policy.yaml";
const OWN = "scripts/address_names.json";
const MAINNET = 1;
const KINDS_OF_SCOPES = { swap: "router", mev: "searcher", exchange: "exchange" };
const UNISWAP_PARTS = {
  v3CoreFactoryAddress: ["V3 factory", "pool"],
  nonfungiblePositionManagerAddress: ["V3 positions", "pool"],
  v3MigratorAddress: ["V3 migrator", "router"],
  v4PoolManagerAddress: ["V4 pool manager", "pool"],
  v4PositionManagerAddress: ["V4 positions", "pool"],
};
const AAVE_PARTS = {
  POOL: "pool",
  WETH_GATEWAY: "WETH gateway",
  COLLECTOR: "collector",
  SWAP_COLLATERAL_ADAPTER: "collateral swap",
  REPAY_WITH_COLLATERAL_ADAPTER: "repayment with collateral",
  DEBT_SWAP_ADAPTER: "debt swap",
};
const HOP_PARTS = {
  l1Bridge: "bridge", l2Bridge: "bridge", l2AmmWrapper: "bridge", l2SaddleSwap: "pool",
};
const AXELAR_PARTS = {
  AxelarGateway: "gateway", AxelarGasService: "gas service",
  InterchainTokenService: "token service",
};
const CHAIN_NAMES = { // at the packages that do not number chains
  ethereum: 1, optimism: 10, bsc: 56, gnosis: 100, xdai: 100, polygon: 137, fantom: 250,
  mantle: 5000, base: 8453, arbitrum: 42161, avalanche: 43114, avax: 43114, linea: 59144,
  blast: 81457, scroll: 534352,
};
const BEEFY_TITLES = {
  pancake: "PancakeSwap", sushi: "SushiSwap", sushiFtm: "SushiSwap", quickswap: "QuickSwap",
  joe: "Trader Joe", biswap: "Biswap", apeswap: "ApeSwap", ape: "ApeSwap",
  spookyswap: "SpookySwap", spiritswap: "SpiritSwap", baseSwap: "BaseSwap",
};

// By chain id and address: [label, kind, source]. `load` imports an installed package, `text` reads
// one of its files.
export async function publishedNames(networks, { load, text, viem, packages }) {
  const { VIEM, SUSHI, AAVE } = packages;
  const rows = [
    ...policyScopes(),
    ...(await uniswap(load)),
    ...(await cow(load)),
    ...aaveMarkets(await load(AAVE.package), AAVE),
    ...(await balancer(load)),
    ...(await morpho(load)),
    ...curvePools(text),
    ...sushiswap(await load("sushi/evm"), SUSHI),
    ...(await wormhole(load)),
    ...(await hop(load)),
    ...(await arbitrum(load)),
    ...opStack(viem, VIEM),
    ...axelar(text),
    ...ownNames(),
    ...(await beefy(load)),
  ];
  const names = Object.fromEntries(Object.keys(networks).map((id) => [id, new Map()]));
  for (const [chain, address, label, kind, source] of rows) {
    const known = names[chain];
    if (!known || !/^0x[0-9a-f]{40}$/i.test(address) || /^0x0{38}/.test(address)) continue;
    if (!known.has(address.toLowerCase())) known.set(address.toLowerCase(), [label, kind, source]);
  }
  return Object.fromEntries(
    Object.entries(names).map(([id, known]) => [id, Object.fromEntries([...known].sort())]),
  );
}

// The scopes of the shipped policy, whose comments name their addresses: the one list of routers.
function policyScopes() {
  const rows = [];
  let [kind, chains] = ["", []];
  for (const line of readFileSync(join(ROOT, POLICY), "utf8").split("\n")) {
    const [, name] = line.match(/^ {2}([a-z]+)[a-z_]*:$/) ?? [];
    const [, ids] = line.match(/^ {4}chains: \[([\d, ]+)\]/) ?? [];
    const [, address, label] = line.match(/^ {6}- (0x[0-9a-f]{40}) # (.+)$/) ?? [];
    if (name) kind = KINDS_OF_SCOPES[name];
    if (ids) chains = ids.split(",").map(Number);
    if (address && !kind) throw new Error(`${label}: of which kind?`);
    if (address) rows.push(...chains.map((id) => [id, address, label, kind, POLICY]));
  }
  return rows;
}

async function uniswap(load) {
  const sdk = await load(UNISWAP.package);
  const rows = [];
  for (const [id, parts] of Object.entries(sdk.CHAIN_TO_ADDRESSES_MAP)) {
    for (const [part, [label, kind]] of Object.entries(UNISWAP_PARTS)) {
      rows.push([id, parts[part] ?? "", `Uniswap ${label}`, kind, UNISWAP.package]);
    }
    rows.push([id, sdk.SWAP_ROUTER_02_ADDRESSES(Number(id)) ?? "", "Uniswap V3 router 2", "router",
      UNISWAP.package]);
  }
  for (const [id, address] of Object.entries(sdk.V2_ROUTER_ADDRESSES)) {
    rows.push([id, address, "Uniswap V2 router", "router", UNISWAP.package]);
  }
  return rows;
}

async function cow(load) {
  const config = await load(COW.package);
  return [
    [config.COW_PROTOCOL_SETTLEMENT_CONTRACT_ADDRESS, "CoW settlement"],
    [config.COW_PROTOCOL_VAULT_RELAYER_ADDRESS, "CoW vault relayer"],
    [config.ETH_FLOW_ADDRESSES, "CoW ETH flow"],
  ].flatMap(([byChain, label]) =>
    Object.entries(byChain).map(([id, at]) => [id, at, label, "router", COW.package]),
  );
}

function aaveMarkets(book, source) {
  const rows = [];
  for (const [key, market] of Object.entries(book)) {
    const [, version, place] = key.match(/^AaveV([23])([A-Z]\w+)$/) ?? [];
    if (!version || !market.ASSETS) continue;
    const own = place.replace(/^([A-Z][a-z]+|[A-Z]+$)/, ""); // without the chain's name
    const title = `Aave V${version} ${own}`.trim();
    const add = (address, label) =>
      rows.push([market.CHAIN_ID, address ?? "", `${title} ${label}`, "lender", source.package]);
    for (const [part, label] of Object.entries(AAVE_PARTS)) add(market[part], label);
    for (const [symbol, asset] of Object.entries(market.ASSETS)) {
      add(asset.A_TOKEN, `${symbol} reserve`);
      add(asset.V_TOKEN, `${symbol} debt`);
      add(asset.STATA_TOKEN, `${symbol} vault`);
    }
  }
  return rows;
}

async function balancer(load) {
  const vaults = (await load(BALANCER.package)).VAULT_V2;
  return Object.entries(vaults).map(([id, at]) => [id, at, "Balancer V2 vault", "pool",
    BALANCER.package]);
}

async function morpho(load) {
  const { addresses } = await load(MORPHO.package);
  const rows = [];
  for (const [id, parts] of Object.entries(addresses)) {
    rows.push([id, parts.morpho ?? "", "Morpho", "lender", MORPHO.package]);
    rows.push([id, parts.permit2 ?? "", "Permit2", "router", MORPHO.package]);
    rows.push([id, parts.bundler3?.bundler3 ?? "", "Morpho bundler", "router", MORPHO.package]);
    rows.push([id, parts.bundler3?.generalAdapter1 ?? "", "Morpho adapter", "router",
      MORPHO.package]);
  }
  return rows;
}

// Read as text: its modules import JSON in a way that newer versions of Node refuse.
function curvePools(text) {
  const pool = /full_name: ["']([^"']+)["'],[\s\S]*?swap_address: ["'](0x[0-9a-fA-F]{40})["']/g;
  const rows = [];
  for (const [chain, id] of Object.entries(CHAIN_NAMES)) {
    let source = "";
    try {
      source = text(CURVE, `lib/constants/pools/${chain}.js`);
    } catch {
      continue; // not on this chain
    }
    for (const [, name, at] of source.matchAll(pool)) {
      const own = name.trim().replace(/^Curve\S* /i, "");
      const label = /pool$/i.test(own) ? `Curve ${own}` : `Curve ${own} pool`;
      rows.push([id, at, label, "pool", CURVE.package]);
    }
  }
  if (rows.length < 80) throw new Error(`${rows.length} pools of Curve`);
  return rows;
}

function sushiswap(sdk, source) {
  return [
    [sdk.SUSHISWAP_V2_ROUTER_ADDRESS, "SushiSwap router", "router"],
    [sdk.RED_SNWAPPER_ADDRESS, "SushiSwap aggregator", "router"],
    [sdk.MASTERCHEF_ADDRESS, "SushiSwap MasterChef", "pool"],
    [sdk.MASTERCHEF_V2_ADDRESS, "SushiSwap MasterChef V2", "pool"],
    [sdk.MINICHEF_ADDRESS, "SushiSwap MiniChef", "pool"],
  ].flatMap(([byChain, label, kind]) =>
    Object.entries(byChain ?? {}).map(([id, at]) => [id, at, label, kind, source.package]),
  );
}

async function wormhole(load) {
  const { contracts, chains } = await load(WORMHOLE.package);
  const rows = [];
  for (const chain of chains) {
    const id = CHAIN_NAMES[chain.toLowerCase()];
    if (!id) continue;
    const cctp = contracts.circleContracts.get("Mainnet", chain);
    for (const [at, label] of [
      [contracts.tokenBridge.get("Mainnet", chain), "Wormhole token bridge"],
      [contracts.coreBridge.get("Mainnet", chain), "Wormhole core bridge"],
      [contracts.tokenBridgeRelayer.get("Mainnet", chain), "Wormhole token relayer"],
      [cctp?.tokenMessenger, "Circle CCTP token messenger"],
      [cctp?.messageTransmitter, "Circle CCTP message transmitter"],
    ]) rows.push([id, at ?? "", label, "bridge", WORMHOLE.package]);
  }
  return rows;
}

async function hop(load) {
  const { mainnet } = await load(`${HOP.package}/addresses`);
  const rows = [];
  for (const [token, byChain] of Object.entries(mainnet.bridges)) {
    for (const [chain, parts] of Object.entries(byChain)) {
      for (const [part, kind] of Object.entries(HOP_PARTS)) {
        rows.push([CHAIN_NAMES[chain], parts[part] ?? "", `Hop ${token} ${kind}`, kind,
          HOP.package]);
      }
    }
  }
  return rows;
}

async function arbitrum(load) {
  const { getArbitrumNetworks } = await load(ARBITRUM.package);
  const rows = [];
  for (const { chainId, name, parentChainId, tokenBridge, ethBridge } of getArbitrumNetworks()) {
    if (parentChainId !== MAINNET) continue;
    const parts = { ...tokenBridge, ...ethBridge };
    for (const [part, place, label] of [
      ["parentErc20Gateway", MAINNET, "ERC-20 gateway"],
      ["parentCustomGateway", MAINNET, "custom gateway"],
      ["parentWethGateway", MAINNET, "WETH gateway"],
      ["bridge", MAINNET, "bridge"],
      ["inbox", MAINNET, "inbox"],
      ["childErc20Gateway", chainId, "ERC-20 gateway"],
      ["childCustomGateway", chainId, "custom gateway"],
      ["childWethGateway", chainId, "WETH gateway"],
    ]) rows.push([place, parts[part] ?? "", `${name} ${label}`, "bridge", ARBITRUM.package]);
  }
  return rows;
}

// The OP stack's bridges, on Ethereum by the chain that they lead to.
function opStack(chains, source) {
  const rows = [];
  for (const { id, name, contracts = {}, testnet } of Object.values(chains)) {
    if (testnet) continue;
    const at = (part) => contracts[part]?.[MAINNET]?.address ?? "";
    rows.push([MAINNET, at("l1StandardBridge"), `${name} bridge`, "bridge", source.package]);
    rows.push([MAINNET, at("portal"), `${name} portal`, "bridge", source.package]);
    const predeployed = contracts.l2StandardBridge?.address ?? "";
    rows.push([id, predeployed, "standard bridge", "bridge", source.package]);
  }
  return rows;
}

function axelar(text) {
  const { chains } = JSON.parse(text(AXELAR, "info/mainnet.json"));
  return Object.values(chains).flatMap(({ chainId, contracts = {} }) =>
    Object.entries(AXELAR_PARTS).map(([part, label]) => [
      chainId, contracts[part]?.address ?? "", `Axelar ${label}`, "bridge", AXELAR.package,
    ]),
  );
}

function ownNames() {
  const { names } = JSON.parse(readFileSync(join(ROOT, OWN), "utf8"));
  return names.flatMap(({ kind, chains, source, addresses }) =>
    Object.entries(addresses).flatMap(([at, label]) =>
      chains.map((id) => [id, at, label, kind, source]),
    ),
  );
}

async function beefy(load) {
  const { addressBook } = await load(BEEFY.package);
  const rows = [];
  for (const [chain, { platforms }] of Object.entries(addressBook)) {
    const id = CHAIN_NAMES[chain];
    if (!id) continue;
    for (const [platform, parts] of Object.entries(platforms)) {
      if (platform === "beefyfinance") continue;
      const title = BEEFY_TITLES[platform] ?? platform[0].toUpperCase() + platform.slice(1);
      for (const [part, at] of Object.entries(parts)) {
        if (typeof at !== "string") continue;
        if (/router$/i.test(part)) rows.push([id, at, `${title} router`, "router", BEEFY.package]);
        if (/^masterchef/i.test(part)) {
          rows.push([id, at, `${title} MasterChef`, "pool", BEEFY.package]);
        }
      }
    }
  }
  return rows;
}
