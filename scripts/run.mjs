#!/usr/bin/env node
// Makes sure that the project is set up, then runs a command with the project's own Python and
// Node programs first on PATH. Every npm script goes through here, so that a fresh clone needs no
// manual step and the forta CLI's Python child (the first `python3` on PATH) is the .venv's.
//
//   node scripts/run.mjs                 set up only
//   node scripts/run.mjs COMMAND [ARG..] set up if needed, then run COMMAND
//
// Environment: PYTHON  the interpreter to create .venv with (default: the newest of 3.13 to 3.11)
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const venv = join(root, ".venv");
const venvBin = join(venv, process.platform === "win32" ? "Scripts" : "bin");
const nodeModules = join(root, "node_modules");
const lockFolder = join(root, ".setup.lock");
const STALE_LOCK_MS = 15 * 60 * 1000;

const say = (text) => process.stderr.write(`[setup] ${text}\n`);

function fail(text) {
  say(text);
  process.exit(1);
}

function run(command, args, what) {
  // Our progress goes to stderr: stdout belongs to the command that the user asked for.
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (result.error) throw new Error(`${what}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${what}: exit code ${result.status}`);
}

function fingerprint(files, extra) {
  const hash = createHash("sha256").update(extra);
  for (const file of files) hash.update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

const stampIs = (file, value) => existsSync(file) && readFileSync(file, "utf8") === value;

function pythonVersion(command) {
  const code = "import sys; print('%d.%d' % sys.version_info[:2])";
  const result = spawnSync(command, ["-c", code], { encoding: "utf8" });
  return result.status === 0 ? result.stdout.trim() : null;
}

function findPython() {
  const candidates = process.env.PYTHON
    ? [process.env.PYTHON]
    : ["python3.13", "python3.12", "python3.11", "python3", "python"];
  for (const command of candidates) {
    const version = pythonVersion(command);
    if (version === null) continue;
    const [major, minor] = version.split(".").map(Number);
    if (major === 3 && minor >= 11 && minor <= 13) return command;
    if (process.env.PYTHON) fail(`PYTHON=${command} is Python ${version}; 3.11 to 3.13 is needed.`);
  }
  return fail("No Python 3.11 to 3.13 found. Install one, or name it: PYTHON=/path/to/python3");
}

const pythonStamp = join(venv, ".installed");
const nodeStamp = join(nodeModules, ".installed");
const pythonWanted = () => fingerprint(["requirements-dev.txt"], "python");
const nodeWanted = () => fingerprint(["package-lock.json"], "node");
const pythonReady = () => stampIs(pythonStamp, pythonWanted());
const nodeReady = () => stampIs(nodeStamp, nodeWanted());

function setUpPython() {
  const python = findPython();
  say(`Python packages into .venv (${python}); about a minute, once ...`);
  rmSync(venv, { recursive: true, force: true });
  run(python, ["-m", "venv", venv], "python -m venv (on Debian: apt install python3-venv)");
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  const locked = ["--no-deps", "--require-hashes", "-r", "requirements-dev.txt"];
  run(join(venvBin, "python"), [...pip, ...locked], "pip install");
  say("Compiling the kernels, once ...");
  run(join(venvBin, "python"), ["-m", "src.detection.precompile"], "compiling the kernels");
  writeFileSync(pythonStamp, pythonWanted());
}

function setUpNode() {
  say("Node packages into node_modules ...");
  run("npm", ["ci", "--ignore-scripts", "--loglevel=error"], "npm ci");
  writeFileSync(nodeStamp, nodeWanted());
}

function takeLock() {
  for (;;) {
    try {
      mkdirSync(lockFolder);
      return;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    try {
      if (Date.now() - statSync(lockFolder).mtimeMs > STALE_LOCK_MS) rmSync(lockFolder, { recursive: true });
    } catch {
      continue; // another process has just given the lock back
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  }
}

function setUp() {
  if (pythonReady() && nodeReady()) return;
  takeLock();
  const release = () => rmSync(lockFolder, { recursive: true, force: true });
  process.on("SIGINT", () => process.exit(130)).on("SIGTERM", () => process.exit(143)).on("exit", release);
  try {
    if (!nodeReady()) setUpNode();
    if (!pythonReady()) setUpPython();
    say("Ready.");
  } catch (error) {
    fail(`${error.message}\n[setup] Mend what is said above and run the command again: it resumes.`);
  } finally {
    release();
  }
}

if (Number(process.versions.node.split(".")[0]) < 20) fail(`Node ${process.versions.node}: 20 or newer is needed.`);
setUp();

const [command, ...args] = process.argv.slice(2);
if (command) {
  const path = [venvBin, join(nodeModules, ".bin"), process.env.PATH].join(delimiter);
  const env = { ...process.env, PATH: path, VIRTUAL_ENV: venv };
  if (command === "forta-agent") {
    const guard = JSON.stringify(join(root, "scripts", "end_with_python.cjs"));
    env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --require=${guard}`.trim();
  }
  const child = spawn(command, args, { cwd: root, stdio: "inherit", env });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.removeAllListeners(signal);
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => fail(`${command}: ${error.message}`));
  child.on("exit", (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : code));
}
