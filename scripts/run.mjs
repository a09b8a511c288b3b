#!/usr/bin/env node
// Makes sure that the project is set up, then runs a command with the project's own Python and
// Node programs first on PATH. Every npm script goes through here, so that a fresh clone needs no
// manual step and the forta CLI's Python child (the first `python3` on PATH) is the .venv's.
//
//   node scripts/run.mjs [--needs LAYER]                   set up only
//   node scripts/run.mjs [--needs LAYER] COMMAND [ARG..]   set up if needed, then run COMMAND
//
// LAYER  which Python packages: runtime (the bot, the default), service (also the service and the
//        operator's tools) or dev (all that a contributor needs); the last one given counts.
//        `--service-for OPTION` before COMMAND means service where ARG has that option
//
// Environment: PYTHON  the interpreter to create .venv with (default: the one that .venv has, else
//              the newest of 3.13 to 3.11)
import { delimiter, join } from "node:path";
import { Stopped, endChildrenWithUs, run } from "./processes.mjs";
import { LAYERS, nodeModules, root, say, setUp, venv, venvBin } from "./setup.mjs";

function fail(text, code = 1) {
  say(text);
  process.exit(code);
}

function parse(args) {
  let layer = "runtime";
  let serviceFor;
  while (args[0]?.startsWith("-")) {
    const [option, value] = args.splice(0, 2);
    if (option === "--service-for") {
      serviceFor = value;
      continue;
    }
    if (option !== "--needs" || !LAYERS.includes(value)) fail(`usage: [--needs ${LAYERS.join("|")}] [COMMAND [ARG ...]]`, 2);
    layer = value;
  }
  if (serviceFor !== undefined && args.includes(serviceFor)) layer = "service";
  return { layer, command: args[0], args: args.slice(1) };
}

function environment() {
  const path = [venvBin, join(nodeModules, ".bin"), process.env.PATH].join(delimiter);
  return { ...process.env, PATH: path, VIRTUAL_ENV: venv };
}

async function main() {
  if (Number(process.versions.node.split(".")[0]) < 20) fail(`Node ${process.versions.node}: 20 or newer is needed.`);
  const { layer, command, args } = parse(process.argv.slice(2));
  endChildrenWithUs();
  const changed = await setUp(layer);
  if (command === undefined) {
    if (!changed) say(`Nothing to do: the ${layer} packages are there.`);
    return 0;
  }
  const { code } = await run(command, args, { cwd: root, stdio: "inherit", env: environment() });
  return code;
}

try {
  process.exit(await main());
} catch (error) {
  if (error instanceof Stopped) process.exit(error.exitCode);
  fail(error.message);
}
