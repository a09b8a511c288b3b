// Ends the forta-agent CLI as soon as its Python child has ended. The container's
// NODE_OPTIONS=--require=... loads this into the CLI, forta.mjs does so for the npm scripts.
//
// The CLI only notices a child that raised while a transaction was in flight. If the kernel's
// out-of-memory killer kills the child, the CLI keeps running with its port open and answers nothing
// until the scan node gives up after 15 minutes without health checks. A process that exits is
// restarted within a minute. This needs no polling and no additional process.
"use strict";

const { subscribe } = require("node:diagnostics_channel");
const { constants } = require("node:os");

const LAST_WORDS_MS = 1000;

subscribe("child_process", ({ process: child }) => {
  const end = () => {
    const { exitCode, signalCode } = child;
    const how = signalCode ?? `exit code ${exitCode}`;
    process.stderr.write(`the Python child has ended (${how}): exiting\n`);
    process.exit(signalCode ? 128 + constants.signals[signalCode] : exitCode || 1);
  };
  child.once("exit", () => {
    // The syntax check that the CLI runs before is a shell's child.
    if (!/^python[\d.]*$/.test(child.spawnfile.split("/").pop())) return;
    // "close" comes when all that the child wrote, its traceback say, has been read.
    child.once("close", end);
    setTimeout(end, LAST_WORDS_MS);
  });
});
