import { fork } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { binaryPath } from "./binary.js";

const patience = 10_000; // milliseconds until a gateway has to be ready
const attempts = 5; // with free ports, each of which another process may take first

export async function start({ callbackUrl, port = 0, env = {}, log = () => {} } = {}) {
  if (typeof callbackUrl !== "string") throw new TypeError("ssegateway: start() needs callbackUrl, a string");
  binaryPath(); // throws where there is none
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOn(port || (await freePort()), callbackUrl, env, log);
    } catch (error) {
      if (port || attempt === attempts || !/address already in use|Only one usage/.test(error.message)) throw error;
    }
  }
}

async function startOn(port, callbackUrl, env, log) {
  const settings = { ...process.env, ...env, CALLBACK_URL: callbackUrl, PORT: String(port) };
  const url = `${settings.TLS_CERT_FILE ? "https" : "http"}://127.0.0.1:${port}`;
  const taken = await isTaken(port); // then who answers there is not this gateway, which ends
  const runner = fork(fileURLToPath(new URL("ssegateway.js", import.meta.url)), [], {
    env: settings,
    execArgv: [],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const lines = [];
  let ready = false;
  const reader = createInterface({ input: runner.stderr }).on("line", (line) => {
    if (!ready) lines.push(line);
    log(line);
  });
  let ended = false;
  const end = Promise.all([once(runner, "exit"), once(reader, "close")])
    .catch((error) => lines.push(`[ERROR] ${error.message}`)) // it was not started
    .then(() => (ended = true));
  const stop = async () => {
    if (runner.connected) runner.disconnect(); // upon which ssegateway.js sends SIGTERM
    await end;
  };

  const deadline = Date.now() + patience;
  while (!ended && (taken || !(await isReady(url)))) {
    if (Date.now() > deadline) {
      await stop();
      throw new Error(`ssegateway: not ready after ${patience / 1000} s:\n${lines.join("\n")}`);
    }
    await Promise.race([end, delay(20)]);
  }
  if (ended) {
    const errors = lines.filter((line) => /\bERROR\b/.test(line));
    throw new Error(`ssegateway: ${(errors.length ? errors : lines).join("\n") || "it ended at once"}`);
  }
  ready = true;
  // A test that forgets stop() ends nevertheless, and the gateway with it.
  runner.unref();
  runner.channel.unref();
  runner.stderr.unref();
  const gateway = {
    url,
    port,
    stop() {
      runner.ref();
      runner.stderr.ref();
      return stop();
    },
  };
  if (Symbol.asyncDispose) gateway[Symbol.asyncDispose] = gateway.stop;
  return gateway;
}

/** Reports whether a gateway at url is ready for streams. */
function isReady(url) {
  return new Promise((resolve) => {
    const { get } = url.startsWith("https:") ? https : http;
    // The certificate of a test is seldom one for 127.0.0.1.
    const request = get(`${url}/readyz`, { agent: false, rejectUnauthorized: false, timeout: 1000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

/** Listens on a port, 0 for a free one, closes again, and returns the port. */
function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, () => {
      const { port: got } = server.address();
      server.close(() => resolve(got));
    });
  });
}

const freePort = () => listen(0);

const isTaken = (port) => listen(port).then(() => false, (error) => error.code === "EADDRINUSE");
