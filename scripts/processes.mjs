// Processes: whether they are alive, the parent of this one, and children that end with it.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";

const WATCH_MS = 1000;
const NPM = /^(\S*node\S* \S*)?npm\b/;
const SHELL = /^-?(\S*\/)?(ba|da|a|k|z)?sh\b/;

/** A signal has ended this run. */
export class Stopped extends Error {
  constructor(signal) {
    super(`stopped by ${signal}`);
    this.exitCode = 128 + constants.signals[signal];
  }
}

/**
 * The process with this pid, or null when there is none that runs. Its `start` tells it from a later
 * process with the same pid; `foreground` says that the terminal's Ctrl-C goes to its group.
 */
export const processOf = (pid) => (existsSync("/proc/self/stat") ? fromProc(pid) : fromPs(pid));

export function fromProc(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const command = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
    // The name, in parentheses, may hold anything: the other fields follow its end.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, parent, group, , , foregroundGroup] = fields;
    if (state === "Z" || state === "X") return null;
    return { pid, parent: Number(parent), start: fields[19], foreground: group === foregroundGroup, command };
  } catch {
    return null;
  }
}

export function fromPs(pid) {
  const columns = "ppid=,pgid=,tpgid=,state=,lstart=,command=";
  const env = { ...process.env, LC_ALL: "C" };
  const { stdout } = spawnSync("ps", ["-o", columns, "-p", String(pid)], { encoding: "utf8", env });
  const row = /^\s*(\d+)\s+(\d+)\s+(-?\d+)\s+(\S+)\s+(\w+\s+\w+\s+\d+\s+[\d:]+\s+\d+)\s+(.*)/.exec(stdout ?? "");
  if (row === null || row[4].startsWith("Z")) return null;
  return { pid, parent: Number(row[1]), start: row[5], foreground: row[2] === row[3], command: row[6] };
}

/** Whether this very process, not just one with its pid, still runs. */
export const lives = ({ pid, start }) => processOf(pid)?.start === start;

/** The npm processes above this one, the outermost last, and the shells between them. */
function callers() {
  const chain = [];
  let npms = 0;
  for (let one = processOf(process.ppid); one !== null; one = processOf(one.parent)) {
    chain.push(one);
    if (NPM.test(one.command)) npms = chain.length;
    else if (!SHELL.test(one.command)) break;
  }
  return chain.slice(0, npms);
}

/** Signal a process that was started detached, and all that it has started in turn. */
export function endGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // it has ended
  }
}

const children = new Set();
let stoppedBy = null;

export function throwIfStopped() {
  if (stoppedBy !== null) throw new Stopped(stoppedBy);
}

export function endChildren(signal = "SIGTERM") {
  for (const { child, detached } of children) {
    if (!detached) child.kill(signal);
    else if (child.pid !== undefined) endGroup(child.pid, signal);
  }
}

/**
 * From now on, a signal to this process goes to its children, and they are ended when the npm that
 * started it is gone: npm dies of SIGHUP and SIGKILL, and a shell between of SIGTERM, without a word
 * to those below.
 */
export function endChildrenWithUs() {
  const stop = (signal) => {
    stoppedBy ??= signal;
    endChildren(signal);
  };
  process.on("SIGTERM", stop).on("SIGHUP", stop);
  process.on("SIGINT", () => {
    // Ctrl-C has already reached the children. Most programs treat a second one as a forced exit.
    if (processOf(process.pid)?.foreground) stoppedBy ??= "SIGINT";
    else stop("SIGINT");
  });
  process.stderr.on("error", () => {}); // a terminal that is gone
  const watched = callers();
  const watch = () => watched.every(lives) || stop("SIGTERM");
  setInterval(watch, WATCH_MS).unref();
}

/**
 * Run a command to its end; answers its exit code, 128 + the signal's number after a signal.
 * `onStart` is given its pid.
 */
export function run(command, args, options, onStart = () => {}) {
  throwIfStopped();
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, options);
    const entry = { child, detached: options.detached };
    children.add(entry);
    if (child.pid !== undefined) onStart(child.pid);
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      children.delete(entry);
      resolve({ code: signal === null ? code : 128 + constants.signals[signal], signal });
    });
  });
}
