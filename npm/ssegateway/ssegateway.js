#!/usr/bin/env node
// Runs the program for this system with the same arguments, signals and exit code.
import { spawn } from "node:child_process";
import { binaryPath } from "./binary.js";

function fail(message) {
  console.error(`[ERROR] ${message}`);
  process.exit(1);
}

let binary;
try {
  binary = binaryPath();
} catch (error) {
  fail(error.message);
}
const program = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
program.on("error", (error) => fail(`ssegateway: ${binary} does not run: ${error.message}`));

for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) {
  process.on(signal, () => {
    // A terminal sends SIGINT to the program as well, which takes a second one for "hurry".
    if (signal !== "SIGINT" || !process.stdin.isTTY) program.kill(signal);
  });
}
// start() is at the other end of this channel. It closes also when that process is killed.
process.on("disconnect", () => program.kill("SIGTERM"));

program.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
