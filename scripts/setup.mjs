// Sets the project up, as far as a command needs it: Node packages in node_modules, and in .venv one
// of three layers of Python packages, each of which contains the one before.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Stopped, endChildren, endGroup, lives, processOf, run, throwIfStopped } from "./processes.mjs";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const venv = join(root, ".venv");
export const venvBin = join(venv, process.platform === "win32" ? "Scripts" : "bin");
export const nodeModules = join(root, "node_modules");

const LOCKS = {
  runtime: "requirements.txt",
  service: "requirements/service.txt",
  dev: "requirements/dev.txt",
};
/** Least first. */
export const LAYERS = Object.keys(LOCKS);

const lockFolder = join(root, ".setup.lock");
const pythonStamp = join(venv, ".installed");
const nodeStamp = join(nodeModules, ".installed");
const LOCK_POLL_MS = 300;
const STEP = "step-";

/** Progress goes to stderr: stdout belongs to the command that the user asked for. */
export const say = (text) => process.stderr.write(`[setup] ${text}\n`);

const read = (file) => (existsSync(file) ? readFileSync(file, "utf8") : "");
const digest = (file, salt) => createHash("sha256").update(salt).update(read(join(root, file))).digest("hex");

const nodeWanted = () => digest("package-lock.json", "node");
const nodeReady = () => read(nodeStamp) === nodeWanted();

/** What was installed: {layer, lock, python: {version, path}}; null when nothing was, or in part. */
function installed() {
  try {
    const stamp = JSON.parse(read(pythonStamp));
    return stamp.layer in LOCKS && stamp.python ? stamp : null;
  } catch {
    return null;
  }
}

const isSupported = (version) => /^3\.1[1-3]\./.test(version);

/** The interpreter behind a command, that of a virtual environment being the one it was made with. */
function interpreter(command) {
  const code =
    "import os, sys; base = getattr(sys, '_base_executable', None) or sys.executable; " +
    "print('%d.%d.%d %s' % (sys.version_info[:3] + (os.path.realpath(base),)))";
  const { error, stdout, stderr } = spawnSync(command, ["-c", code], { encoding: "utf8" });
  if (error) return { problem: error.code === "ENOENT" ? "no such program" : error.message };
  const found = /^(\d+\.\d+\.\d+) (.+)$/m.exec(stdout);
  if (found === null) return { problem: stderr.trim().split("\n")[0] || "it is no Python" };
  return { command, version: found[1], path: found[2] };
}

/** The interpreter that PYTHON asks for; null when it asks for none. */
function requestedPython() {
  const command = process.env.PYTHON;
  if (!command) return null;
  const python = interpreter(command);
  if (python.problem) throw new Error(`PYTHON=${command} cannot be run: ${python.problem}.`);
  if (isSupported(python.version)) return python;
  throw new Error(`PYTHON=${command} is Python ${python.version}; 3.11 to 3.13 is needed.`);
}

/** The interpreter of before where it still runs, else the newest. */
function findPython() {
  const before = installed()?.python.path ?? [];
  for (const command of [before, "python3.13", "python3.12", "python3.11", "python3", "python"].flat()) {
    const python = interpreter(command);
    if (!python.problem && isSupported(python.version)) return python;
  }
  throw new Error("No Python 3.11 to 3.13 found. Install one, or name it: PYTHON=/path/to/python3");
}

/** Why .venv cannot be used, not even as a base for more; null when it can. */
function reasonToRebuild(requested) {
  const stamp = installed();
  if (stamp === null) return existsSync(venv) ? "it was not completed by this set-up" : "there is none";
  const { path, version } = stamp.python;
  if (!existsSync(join(venvBin, "python"))) return `its Python is gone (${path})`;
  if (!isSupported(version)) return `it has Python ${version}`;
  if (requested && (requested.path !== path || requested.version !== version)) {
    return `PYTHON is ${requested.path} (${requested.version}), it has ${path} (${version})`;
  }
  return stamp.lock === digest(LOCKS[stamp.layer], "python") ? null : "its packages have been updated";
}

/** What has to be done for a layer. */
function plan(layer) {
  const requested = requestedPython();
  const rebuild = reasonToRebuild(requested);
  const has = rebuild === null ? LAYERS.indexOf(installed().layer) : -1;
  return {
    rebuild,
    python: rebuild === null ? installed().python : (requested ?? findPython()),
    addPython: has < LAYERS.indexOf(layer),
    addNode: !nodeReady(),
  };
}

/** Run one step of the set-up; it leaves a trace for the next owner of the lock while it runs. */
async function step(what, command, ...args) {
  let trace = null;
  let group = null;
  const options = { cwd: root, stdio: ["ignore", 2, 2], detached: true };
  try {
    const { code, signal } = await run(command, args, options, (pid) => {
      group = pid;
      trace = join(lockFolder, `${STEP}${pid}`);
      symlinkSync(`${pid} ${processOf(pid)?.start}`, trace);
    });
    throwIfStopped();
    if (signal) throw new Error(`ended by ${signal}`);
    if (code !== 0) throw new Error(`exit code ${code}, see above`);
  } catch (error) {
    if (group !== null) endGroup(group, "SIGKILL"); // what outlived its parent
    throw error instanceof Stopped ? error : new Error(`${what}: ${error.message}`);
  } finally {
    if (trace !== null) rmSync(trace, { force: true });
  }
}

/** End the steps that a killed set-up has left running: they would write into ours. */
function endLeftSteps() {
  for (const name of readdirSync(lockFolder).filter((one) => one.startsWith(STEP))) {
    const trace = join(lockFolder, name);
    const left = linked(trace);
    if (lives(left)) endGroup(left.pid, "SIGKILL");
    rmSync(trace, { force: true });
  }
}

/** The process that a link in the lock's folder names. */
function linked(link) {
  const [, pid, start] = /^(\d+) (.*)$/.exec(readlinkSync(link));
  return { pid: Number(pid), start };
}

async function setUpPython(layer, { rebuild, python }) {
  const venvPython = join(venvBin, "python");
  if (rebuild !== null) {
    if (existsSync(venv)) say(`Making .venv anew: ${rebuild}.`);
    rmSync(venv, { recursive: true, force: true, maxRetries: 10 });
    await step("python -m venv (on Debian: apt install python3-venv)", python.command, "-m", "venv", venv);
  }
  say(`Python ${python.version}: ${layer} packages into .venv, once ...`);
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"];
  await step("pip install", venvPython, ...pip, "--no-deps", "--require-hashes", "-r", LOCKS[layer]);
  if (rebuild !== null) {
    say("Compiling the kernels, once ...");
    await step("compiling the kernels", venvPython, "-m", "src.detection.precompile");
  }
  const { version, path } = python;
  writeFileSync(pythonStamp, JSON.stringify({ layer, lock: digest(LOCKS[layer], "python"), python: { version, path } }));
}

async function setUpNode() {
  say("Node packages into node_modules, once ...");
  await step("npm ci", "npm", "ci", "--ignore-scripts", "--loglevel=error");
  writeFileSync(nodeStamp, nodeWanted());
}

/** All at once; when one fails the others are ended. Throws what failed first. */
async function together(tasks) {
  let failure = null;
  const fail = (error) => {
    failure ??= error;
    endChildren();
  };
  await Promise.all(tasks.map((task) => task.catch(fail)));
  if (failure !== null) throw failure;
}

/**
 * Waits until no other set-up runs; answers a function that lets the next one begin.
 *
 * The lock is the highest numbered link in the folder, as long as the process that it names lives.
 * Each makes only its own link and removes only its own, so that two who find a dead owner at once
 * cannot both succeed it: just one can make the next number. The link of a killed one stays.
 */
async function takeLock() {
  const { pid, start } = processOf(process.pid);
  let awaited = null;
  for (;;) {
    throwIfStopped();
    try {
      mkdirSync(lockFolder, { recursive: true });
      const last = Math.max(0, ...readdirSync(lockFolder).map(Number).filter(Number.isInteger));
      const owner = last > 0 ? linked(join(lockFolder, String(last))) : null;
      if (owner === null || !lives(owner)) {
        const mine = join(lockFolder, String(last + 1));
        symlinkSync(`${pid} ${start}`, mine);
        endLeftSteps();
        return once(() => release(mine));
      }
      if (awaited !== owner.pid) say(`Another set-up is running (pid ${owner.pid}), waiting ...`);
      awaited = owner.pid;
    } catch (error) {
      if (error.code === "EEXIST" || error.code === "ENOENT") continue; // another was quicker
      throw error;
    }
    await sleep(LOCK_POLL_MS);
  }
}

function once(action) {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}

function release(link) {
  rmSync(link, { force: true });
  try {
    rmdirSync(lockFolder);
  } catch {
    // others are in it
  }
}

/**
 * Install what a layer needs and is not there yet; answers whether there was anything to do.
 *
 * Throws: Stopped after a signal; Error with a message for the user.
 */
export async function setUp(layer) {
  const todo = plan(layer);
  if (!todo.addPython && !todo.addNode) return false;
  const releaseLock = await takeLock().catch((error) => {
    if (!["EACCES", "EPERM", "EROFS"].includes(error.code)) throw error;
    const command = `npm run setup -- --needs ${layer}`;
    const why = todo.rebuild === null ? "" : `.venv: ${todo.rebuild}; `;
    throw new Error(`Not set up for this command, and you may not write to ${root} (${why}its owner runs \`${command}\`).`);
  });
  process.on("exit", releaseLock);
  try {
    const { addPython, addNode, ...python } = plan(layer); // another may have done it meanwhile
    const tasks = [];
    if (addPython) tasks.push(setUpPython(layer, python));
    if (addNode) tasks.push(setUpNode());
    await together(tasks);
    say("Ready.");
    return true;
  } finally {
    releaseLock();
  }
}
