#!/usr/bin/env node
// Runs the forta-agent CLI, third-party code, for the npm scripts. It checks the arguments, which
// the CLI does not, takes the node's URL from where the bot takes it, and otherwise leaves the CLI
// as it is: the CLI runs in this process, so its output, exit codes and signals are its own.
//
//   node scripts/forta.mjs MODE [VALUE] [OPTION..]     in the folder of package.json
//
// Exit codes: the CLI's, 2 for arguments that cannot be right, 128 + the signal's number.
import { subscribe } from "node:diagnostics_channel";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, homedir, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const require = createRequire(import.meta.url);

const CONFIG = "forta.config.json";
const NODE_TIMEOUT_MS = 30_000;

// Objects that the CLI requests from a node and does not expect to be missing.
const ITEMS = {
  eth_getBlockByHash: "block",
  eth_getBlockByNumber: "block",
  eth_getTransactionReceipt: "transaction",
};

const isHash = (text) => /^0x[0-9a-f]{64}$/i.test(text);
const isNumber = (text) => /^\d{1,15}$/.test(text);
const isRange = (text) => /^\d{1,15}\.\.\d{1,15}$/.test(text);
const isHttpUrl = (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
const quote = (value) => {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
};

// Each check returns an error message, or nothing.
const each = (check) => (list) => list.split(",").map(check).find(Boolean);

const checkTransaction = (text) =>
  isHash(text) ? "" : `${quote(text)} is not a transaction hash: 0x and 64 hexadecimal digits`;

const checkBlock = (text) =>
  isHash(text) || isNumber(text) ? "" : `${quote(text)} is neither a block number nor a block hash`;

function checkRange(text) {
  if (!isRange(text)) return `${quote(text)} is not a range of blocks, such as 22119617..22119620`;
  const [first, last] = text.split("..").map(Number);
  return first < last ? "" : `the last block of ${text} must be after the first`;
}

function checkStep(text) {
  if (isNumber(text) || (text.startsWith("tx") && isHash(text.slice(2)))) return "";
  if (isHash(text)) return `a hash alone stands for an alert, which this bot does not handle; a transaction is tx${text}`;
  return `${quote(text)} is not a step: a transaction is tx0x..., a block is its number`;
}

function checkFile(path) {
  const { transactionEvents = [], sequenceEvents = [] } = readJson(path);
  if (!Array.isArray(transactionEvents) || !Array.isArray(sequenceEvents)) {
    return `${path}: transactionEvents and sequenceEvents must be lists`;
  }
  if (transactionEvents.length + sequenceEvents.length === 0) {
    return `${path} has nothing for this bot: {"transactionEvents": [...]} or {"sequenceEvents": [...]} is needed`;
  }
  const checkEvent = (event) => {
    if (typeof event === "string") return checkTransaction(event);
    return event?.hash && event.transaction?.hash ? "" : `${quote(event)} needs a hash and a transaction with a hash`;
  };
  const checkSequence = (steps) => (typeof steps === "string" ? each(checkStep)(steps) : `${quote(steps)} is not text`);
  const problem = transactionEvents.map(checkEvent).find(Boolean) ?? sequenceEvents.map(checkSequence).find(Boolean);
  return problem && `${path}: ${problem}`;
}

// The modes, by the names of the npm scripts. `run` are the arguments of `forta-agent run` for modes
// that need a node; `value` is the argument that a mode requires, `check` its check and `example` one
// that passes it; `patience` is for how many seconds requests to a lagging node are retried.
const LOCAL = { config: { type: "string" }, nocache: { type: "boolean" } };
const MODES = {
  start: {
    run: [],
    patience: 60,
    options: LOCAL,
    about: "Run the bot on every new block of the node, until Ctrl-C.",
  },
  "start:prod": {
    options: { config: { type: "string" } },
    about: "Serve the bot over gRPC as on a scan node, on port AGENT_GRPC_PORT (default: 50051).",
  },
  tx: {
    run: ["--tx"],
    patience: 3,
    options: LOCAL,
    value: "HASH[,HASH...]",
    check: each(checkTransaction),
    example: "0x8cd29bb0b65ac3a42e00f6f2d4561d639f4fc9eb9797bba07156616a392a5210",
    about: "Run the bot on transactions.",
  },
  block: {
    run: ["--block"],
    patience: 3,
    options: LOCAL,
    value: "BLOCK[,BLOCK...]",
    check: each(checkBlock),
    example: "22119617",
    about: "Run the bot on the transactions of blocks, each given by number or hash.",
  },
  range: {
    run: ["--range"],
    patience: 3,
    options: LOCAL,
    value: "FIRST..LAST",
    check: checkRange,
    example: "22119617..22119620",
    about: "Run the bot on the transactions of all blocks from FIRST to LAST.",
  },
  sequence: {
    run: ["--sequence"],
    patience: 3,
    options: LOCAL,
    value: "STEP[,STEP...]",
    check: each(checkStep),
    example: "22119617,tx0x8cd29bb0b65ac3a42e00f6f2d4561d639f4fc9eb9797bba07156616a392a5210",
    about: "Run the bot on transactions (txHASH) and blocks (their number) in this order.",
  },
  file: {
    run: ["--file"],
    patience: 3,
    options: LOCAL,
    value: "FILE",
    check: checkFile,
    example: "events.json",
    about:
      'Run the bot on a JSON file: {"transactionEvents": [...]} with hashes or whole events,\n' +
      '{"sequenceEvents": [...]} with texts of steps as for npm run sequence.',
  },
  alert: {
    refusal: "this bot handles transactions and has no handler for alerts; npm run tx runs it on a transaction",
    about: "Not available: this bot handles transactions and has no handler for alerts.",
  },
  keyfile: { about: "Print the publisher's key file in ~/.forta and its address; make one where there is none." },
  publish: {
    options: { config: { type: "string" } },
    about: "Build and push the image, upload the manifest and register the bot (needs Docker and the key).",
  },
  push: {
    options: { config: { type: "string" }, manifest: { type: "boolean" } },
    about: "Build and push the image only; with --manifest upload the manifest too.",
  },
  stake: { options: { agentId: { type: "string" } }, about: "Stake 100 FORT on the bot." },
  info: { options: { agentId: { type: "string" } }, about: "Print what the registry knows of the bot." },
  logs: {
    options: Object.fromEntries(["agentId", "scannerId", "after", "before"].map((name) => [name, { type: "string" }])),
    about: "Print the bot's logs from scan nodes; --after and --before are ISO times, both or neither.",
  },
  enable: { about: "Enable the bot." },
  disable: { about: "Disable the bot." },
};

function fail(text, code = 2) {
  process.stderr.write(`${mode}: ${text}\n`);
  process.exit(code);
}

function readJson(path, { optional = false } = {}) {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (optional && error.code === "ENOENT") return {};
    const why = { ENOENT: "no such file", EISDIR: "it is a folder", EACCES: "permission denied" };
    return fail(`${path} cannot be read: ${why[error.code] ?? error.code}`);
  }
  try {
    const value = require("jsonc").jsonc.parse(text); // comments are allowed, as in the CLI
    if (value instanceof Object && !Array.isArray(value)) return value;
  } catch {
    // The parser's message quotes the file, which may contain secrets.
  }
  return fail(`${path} is not a JSON object`);
}

// The CLI's configuration with the node's URL in it, in the order of src/settings.py: the file that
// was named, the environment, secrets.json, the scan node's proxy, the CLI's own files.
function configuration(named) {
  const local = readJson(named ?? CONFIG, { optional: named === undefined });
  const secrets = readJson("secrets.json", { optional: true });
  const { JSON_RPC_URL, JSON_RPC_HOST: host, JSON_RPC_PORT: port } = process.env;
  const url = [
    named && local.jsonRpcUrl,
    JSON_RPC_URL,
    secrets.JSON_RPC_URL ?? secrets.apiKeys?.JSON_RPC_URL,
    host?.trim() && `http://${host.trim()}${port?.trim() ? `:${port.trim()}` : ""}`,
    local.jsonRpcUrl,
    readJson(join(homedir(), ".forta", CONFIG), { optional: true }).jsonRpcUrl,
  ].find((candidate) => typeof candidate === "string" && candidate.trim());
  if (!url) fail(`no node is configured: export JSON_RPC_URL, or put jsonRpcUrl into ${CONFIG}`);
  if (!isHttpUrl(url.trim())) fail("the node's URL (JSON_RPC_URL, jsonRpcUrl) must begin with http:// or https://");
  return { ...local, jsonRpcUrl: url.trim() };
}

// The URL may contain a key, so the file is readable by this user only and removed at exit.
function write(config) {
  const folder = mkdtempSync(join(tmpdir(), "forta-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, CONFIG);
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}

// What a node says, without the parts of its URL that may be keys.
function withoutKeys(text, url) {
  const { pathname, search, username, password } = new URL(url);
  const parts = [...pathname.split("/"), ...search.split(/[?&=]/), username, password];
  return parts.filter((part) => part.length >= 6).reduce((shown, part) => shown.replaceAll(part, "***"), `${text}`);
}

// ethers ignores the user and the password in a URL.
function sendCredentials(url) {
  const { username, password } = new URL(url);
  if (!username) return;
  const login = { user: decodeURIComponent(username), password: decodeURIComponent(password) };
  const web = require("@ethersproject/web");
  const { fetchJson } = web;
  web.fetchJson = (node, ...rest) =>
    fetchJson(node.url === url ? { ...node, ...login, allowInsecureAuthentication: true } : node, ...rest);
}

// The CLI itself does not say why it cannot reach a node, and waits two minutes for a silent one.
async function checkNode(url) {
  const { fetchJson } = require("ethers").utils;
  const request = { jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] };
  let why;
  try {
    const answer = await fetchJson({ url, timeout: NODE_TIMEOUT_MS }, JSON.stringify(request));
    const chainId = Number(answer?.result);
    if (Number.isSafeInteger(chainId) && chainId > 0) return checkChain(chainId);
    why = withoutKeys(answer?.error?.message ?? "not an Ethereum node", url);
  } catch (error) {
    const isUnreadable = error.reason === "processing response error";
    const said = isUnreadable ? "its answer is not JSON" : withoutKeys(error.reason ?? error.message, url);
    why = error.serverError?.code ?? (error.status ? `HTTP ${error.status}` : said);
  }
  fail(`the node at ${new URL(url).origin} does not answer (${why}); JSON_RPC_URL or --config FILE names another`, 1);
}

// Where FORTA_CHAIN_ID is set elsewhere, the bot itself refuses.
function checkChain(chainId) {
  const wanted = process.env.FORTA_CHAIN_ID?.trim();
  if (wanted && Number(wanted) !== chainId) fail(`FORTA_CHAIN_ID is ${wanted}, but the node is on chain ${chainId}`);
  return chainId;
}

// The CLI's cache of blocks, by number, is one for all chains: keep one for each.
function separateCaches(chainId) {
  const cache = require("flat-cache");
  const { load } = cache;
  cache.load = (name, folder) => load.call(cache, `${name}-${chainId}`, folder);
}

// A lagging node, for example one of several behind a load balancer, returns null for the newest
// block, and the CLI ends with a TypeError. Retry for a while, then print a readable error.
function expectAnswers(url, patience) {
  const { JsonRpcProvider } = require("ethers").providers;
  const { send } = JsonRpcProvider.prototype;
  JsonRpcProvider.prototype.send = async function (method, parameters) {
    for (let second = 0; ; second += 1) {
      const answer = await send.call(this, method, parameters);
      if (answer !== null || !(method in ITEMS)) return answer;
      const [id] = parameters;
      const item = `${ITEMS[method]} ${isHash(id) ? id : Number(id)}`;
      if (second >= patience) throw new Error(`the node at ${new URL(url).origin} does not have ${item} (yet)`);
      if (second === 0) process.stderr.write(`${mode}: the node does not have ${item}; retrying ...\n`);
      await sleep(1000);
    }
  };
}

// `forta-agent init` makes a key as well, but it copies a starter project over this one.
async function makeKey() {
  const container = require("forta-agent/dist/cli/di.container").default({ cliCommandName: "keyfile" });
  process.umask(0o077);
  const noPassword = () => fail("no key was made: no password was given", 1);
  process.once("beforeExit", noPassword); // the CLI waits for a password even where standard input has ended
  try {
    await container.resolve("initKeystore")();
    await container.resolve("initKeyfile")();
  } catch (error) {
    fail(`no key was made: ${error.message}`, 1);
  }
  process.off("beforeExit", noPassword);
}

// A signal also ends the bot, the CLI's Python child; the end of the bot ends the CLI.
function endTogether() {
  const children = new Set();
  subscribe("child_process", ({ process: child }) => children.add(child));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      for (const child of children) child.kill("SIGTERM");
      process.exit(128 + constants.signals[signal]);
    });
  }
  require("./end_with_python.cjs");
}

function help() {
  const { about, value, example, options = {} } = MODES[mode];
  const placeholders = { config: " FILE", agentId: " ID", scannerId: " ID", after: " TIME", before: " TIME" };
  const optional = Object.keys(options).map((name) => ` [--${name}${placeholders[name] ?? ""}]`);
  const command = mode === "start" ? "npm start" : `npm run ${mode}`;
  const lines = [`usage: ${command} --${value ? ` ${value}` : ""}${optional.join("")}`, "", about];
  if (MODES[mode].run) {
    lines.push(
      "",
      `The node is jsonRpcUrl of --config FILE, else JSON_RPC_URL, else jsonRpcUrl of ${CONFIG}.`,
      "--nocache writes no blocks to the CLI's cache, which tells chains apart by their ids only.",
    );
  }
  if (example) lines.push("", "example:", `  JSON_RPC_URL=https://YOUR-NODE ${command} -- ${example}`);
  lines.push("", "exit codes: 0 done, 1 failed, 2 wrong usage, 128 + N stopped by signal N.");
  process.stdout.write(`${lines.join("\n")}\n`);
}

function parse(args) {
  const { options = {}, value: wanted, check, refusal } = MODES[mode];
  let parsed;
  try {
    parsed = parseArgs({ args, options: { ...options, help: { type: "boolean", short: "h" } }, allowPositionals: true });
  } catch (error) {
    return fail(error.message.split(". ")[0]); // what follows is advice on positional arguments
  }
  const { values, positionals } = parsed;
  if (values.help) return { values };
  if (refusal) fail(refusal);
  const [value, unexpected] = wanted ? positionals : [undefined, ...positionals];
  if (unexpected !== undefined) fail(`unexpected argument ${quote(unexpected)}`);
  if (wanted && !value) fail(`${wanted} is missing: npm run ${mode} -- ${wanted}`);
  const problem = wanted && check(value);
  if (problem) fail(problem);
  return { values, value };
}

const [mode, ...args] = process.argv.slice(2);
if (!Object.hasOwn(MODES, mode ?? "")) {
  process.stderr.write(`usage: node scripts/forta.mjs ${Object.keys(MODES).join("|")} ...\n`);
  process.exit(2);
}
const { values, value } = parse(args);
if (values.help) {
  help();
  process.exit();
}

const { run, patience } = MODES[mode];
const command = run ? ["run", ...run, ...(value ? [value] : [])] : mode === "start:prod" ? ["run", "--prod"] : [mode];
let config = values.config && resolve(values.config);
if (config) readJson(config);
delete process.env.NODE_ENV; // "production" makes the CLI ignore its configuration
if (mode === "start:prod") process.env.NODE_ENV = "production";
if (mode === "keyfile") await makeKey();
if (command[0] === "run") endTogether();
if (run) {
  const merged = configuration(values.config);
  sendCredentials(merged.jsonRpcUrl);
  separateCaches(await checkNode(merged.jsonRpcUrl));
  expectAnswers(merged.jsonRpcUrl, patience);
  config = write(merged);
}
// The CLI takes the path for relative to the project, always.
if (config) command.push("--config", relative(process.cwd(), config));
for (const [name, given] of Object.entries(values)) {
  if (name !== "config") command.push(given === true ? `--${name}` : `--${name}=${given}`);
}
const cli = require.resolve("forta-agent/dist/cli/index.js");
process.argv = [process.execPath, cli, ...command];
require(cli);
