// The Solidity compiler as a filter: standard JSON input on stdin, standard JSON output on stdout.
import { readFileSync, writeSync } from "node:fs";
import solc from "solc";

const output = Buffer.from(solc.compile(readFileSync(0, "utf8")));
for (let written = 0; written < output.length; ) written += writeSync(1, output, written);
