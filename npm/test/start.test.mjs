// What start() and the command promise, with the packed packages installed beside this file.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { start } from "ssegateway";

const unused = "http://127.0.0.1:9/";

async function until(what, condition) {
  for (const end = Date.now() + 20_000; Date.now() < end; await delay(20)) {
    if (await condition()) return;
  }
  assert.fail(`not within 20 s: ${what}`);
}

const answers = (url) => fetch(`${url}/healthz`).then(() => true, () => false);

/** Reads a stream until it has text, and returns what came. */
async function readUntil(stream, text) {
  let got = "";
  for (const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader(); !got.includes(text);) {
    const { done, value } = await reader.read();
    assert.ok(!done, `the stream ended: ${got}`);
    got += value;
  }
  return got;
}

// A stream opens, gets an event, and is told of at stop(), which may be called twice.
test("one connection", async (t) => {
  const callbacks = [];
  const backend = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    callbacks.push(JSON.parse(body));
    response.end();
  }).listen(0, "127.0.0.1");
  await once(backend, "listening");
  t.after(() => backend.close());
  const logged = [];
  const gateway = await start({ callbackUrl: `http://127.0.0.1:${backend.address().port}/callback`, log: (line) => logged.push(line) });
  const stream = await fetch(`${gateway.url}/events`);
  const [{ action, token }] = callbacks;
  assert.equal(action, "connect");
  const sent = await fetch(`${gateway.url}/internal/send`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, event: { name: "order", data: "shipped" } }),
  });
  assert.equal(sent.status, 200);
  await readUntil(stream, "event: order\ndata: shipped\n");
  await Promise.all([gateway.stop(), gateway.stop()]);
  await gateway.stop();
  assert.equal(await answers(gateway.url), false);
  assert.deepEqual(callbacks.slice(1).map((c) => [c.action, c.token]), [["disconnect", token]]);
  assert.ok(logged.some((line) => line.includes("stopped")), logged.join("\n"));
});

// Two have ports of their own, a port that is given is used, and settings reach the gateway.
test("ports and settings", async (t) => {
  const [a, b] = await Promise.all([start({ callbackUrl: unused }), start({ callbackUrl: unused, env: { INTERNAL_TOKEN: "secret-of-a-test" } })]);
  t.after(() => Promise.all([a.stop(), b.stop()]));
  assert.notEqual(a.port, b.port);
  assert.equal(a.url, `http://127.0.0.1:${a.port}`);
  assert.equal((await fetch(`${b.url}/internal/connections`)).status, 401);
  await assert.rejects(start({ callbackUrl: unused, port: a.port }), /address already in use/);
  assert.ok(await answers(a.url));
  await a.stop();
  const again = await start({ callbackUrl: unused, port: a.port });
  assert.equal(again.port, a.port);
  await again.stop();
});

// What the gateway refuses, the promise is rejected with.
test("bad values", async () => {
  await assert.rejects(start({ callbackUrl: "nope" }), /CALLBACK_URL: .* http:\/\/ or https:\/\//);
  await assert.rejects(start({ callbackUrl: unused, env: { LOG_FORMAT: "xml" } }), /LOG_FORMAT: "xml"/);
  await assert.rejects(start({}), /needs callbackUrl/);
});

// A gateway ends when the process that started it is killed, or ends without stop().
for (const how of ["SIGKILL", "its own end"]) {
  test(`no orphan after ${how}`, async () => {
    const wait = how === "SIGKILL" ? "setInterval(() => {}, 1000);" : "";
    const script = `import { start } from "ssegateway"; const g = await start({ callbackUrl: "${unused}" }); console.log(g.url); ${wait}`;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const exit = once(parent, "exit");
    const [url] = await once(createInterface({ input: parent.stdout }), "line");
    if (how === "SIGKILL") {
      assert.ok(await answers(url));
      parent.kill("SIGKILL");
    }
    await exit;
    await until("the gateway's end", async () => !(await answers(url)));
  });
}

// Without a program for the system the error names it; SSEGATEWAY_BINARY is run instead.
test("which program", () => {
  const script = `Object.defineProperty(process, "arch", { value: "s390x" });
    const { start } = await import("ssegateway"); await start({ callbackUrl: "${unused}" }).catch((e) => console.log(e.message));`;
  const none = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.match(none.stdout, /there is no program for linux-s390x: the package @ssegateway\/linux-s390x is not installed.*SSEGATEWAY_BINARY/);
  const env = { ...process.env, SSEGATEWAY_BINARY: "/bin/echo" };
  const echo = spawnSync("npx", ["--no-install", "ssegateway", "a", "b c"], { env, encoding: "utf8" });
  assert.equal(echo.stdout, "a b c\n");
});

// The command passes on arguments, exit code and signals.
test("the command", async () => {
  const bad = spawnSync("npx", ["--no-install", "ssegateway", "nonsense"], { encoding: "utf8" });
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /nonsense/);
  const shell = spawn(process.execPath, ["node_modules/ssegateway/ssegateway.js", "-c", "kill -KILL $$"], { env: { ...process.env, SSEGATEWAY_BINARY: "/bin/sh" } });
  assert.deepEqual(await once(shell, "exit"), [null, "SIGKILL"]);
});

// npx ssegateway demo shows events on its page's stream, and SIGTERM ends it in order.
test("the demo", async (t) => {
  const free = async () => {
    const server = createServer().listen(0);
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    return port;
  };
  const [port, page] = [await free(), await free()];
  const demo = spawn(process.execPath, ["node_modules/ssegateway/ssegateway.js", "demo", "--port", port, "--page-port", page], { stdio: "ignore" });
  t.after(() => demo.kill("SIGTERM"));
  const exit = once(demo, "exit");
  await until("the demo's page", () => fetch(`http://127.0.0.1:${page}/`).then((r) => r.ok, () => false));
  await until("the gateway", () => fetch(`http://127.0.0.1:${port}/readyz`).then((r) => r.ok, () => false));
  const [cookie] = (await fetch(`http://127.0.0.1:${page}/`)).headers.get("set-cookie").split(";");
  const stream = await fetch(`http://127.0.0.1:${port}/events/`, { headers: { Cookie: cookie, Origin: `http://127.0.0.1:${page}` } });
  assert.equal(stream.status, 200);
  const sent = await fetch(`http://127.0.0.1:${page}/send`, { method: "POST", headers: { Cookie: cookie }, body: new URLSearchParams({ name: "message", data: "from the demo" }) });
  assert.equal(sent.status, 200);
  await readUntil(stream, "data: from the demo\n");
  demo.kill("SIGTERM");
  assert.deepEqual(await exit, [0, null]);
});
