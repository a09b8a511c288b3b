// Adds to package-lock.json the platform packages of Anvil that npm left out.
//
// npm omits an optional dependency from the lock if the registry used for locking does not serve it,
// and then rejects `npm ci` everywhere because the lock is incomplete. The entries only contain
// version, system and CPU: npm skips those for other systems.
import { readFileSync, writeFileSync } from "node:fs";

const CPU = { amd64: "x64", arm64: "arm64" };
const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
const { packages } = lock;
const wanted = packages["node_modules/@foundry-rs/anvil"].optionalDependencies;
const dev = packages["node_modules/@foundry-rs/anvil"].dev;
for (const [name, version] of Object.entries(wanted)) {
  const [os, cpu] = name.split("anvil-")[1].split("-");
  packages[`node_modules/${name}`] ??= { version, cpu: [CPU[cpu]], ...(dev && { dev }), optional: true, os: [os] };
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);
