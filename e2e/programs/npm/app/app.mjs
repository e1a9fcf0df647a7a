// The applications of the tests, each on its own paths of one server, and the pages of their clients. PORT is where it
// listens. What docs/relay.md says of a client is taken from there.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

import { chat, chatThatResumes, textChat } from "./chat.mjs";
import { agent, datastar, events, htmx } from "./streams.mjs";
import { mcp } from "./mcp.mjs";
import { control, named } from "./run.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const relayPage = await readFile(here("../../../../docs/relay.md"), "utf8");

// ours makes a part of a page work here: its requests name the run.
const ours = (text) => text.replaceAll(/"(\/(?:api\/chat|agent))"/g, '"$1" + location.search');

// docs has "relay.md/name.js" be the program with that name in docs/relay.md.
const docs = {
  name: "docs",
  setup(build) {
    build.onResolve({ filter: /^relay\.md\// }, ({ path }) => ({ path: path.slice("relay.md/".length), namespace: "docs" }));
    build.onResolve({ filter: /^\.\/relay\.js$/ }, () => ({ path: here("../../../../web/relay.js") }));
    build.onLoad({ filter: /.*/, namespace: "docs" }, ({ path }) => {
      const [, contents] = relayPage.split("```js\n// " + path + "\n");
      return { contents: ours(contents.split("```")[0]), resolveDir: here("..") };
    });
  },
};

const bundle = await build({
  entryPoints: [here("../clients/page.jsx")], bundle: true, write: false, format: "iife", jsx: "automatic", target: "chrome120",
  define: { "process.env.NODE_ENV": '"production"' }, logLevel: "error", plugins: [docs],
});
const scripts = {
  "/page.js": bundle.outputFiles[0].contents,
  "/datastar.js": await readFile(here("../node_modules/@starfederation/datastar/dist/datastar.js")),
  "/htmx.js": await readFile(here("../node_modules/htmx.org/dist/htmx.js")),
  "/hx-sse.js": await readFile(here("../node_modules/htmx.org/dist/ext/hx-sse.js")),
};
const page = {};
for (const name of ["script", "datastar", "htmx"]) page[name] = await readFile(here(`../clients/${name}.html`), "utf8");
const [form] = /<form hx-post="\/chat"[^>]*/.exec(relayPage);
page.htmx = page.htmx.replace("FORM", form.replace("/chat", "/htmx?QUERY"));

const routes = {
  "/control": control,
  "/api/chat": chat, "/text-chat": textChat,
  "/chat-own": chatThatResumes, "/chat-own/stream": chatThatResumes,
  "/mcp": mcp(), "/mcp-store": mcp({ store: true }),
  "/events": events, "/datastar": datastar, "/htmx": htmx, "/agent": agent,
};

createServer(async (req, res) => {
  const { pathname, searchParams: query } = new URL(req.url, "http://app");
  const run = named(query.get("run"));
  try {
    if (pathname === "/healthz") res.end();
    else if (pathname === "/page") {
      const text = (page[query.get("client")] ?? page.script).replace("QUERY", query);
      res.setHeader("Content-Type", "text/html; charset=utf-8").end(text);
    }
    else if (pathname in scripts) res.setHeader("Content-Type", "text/javascript; charset=utf-8").end(scripts[pathname]);
    else if (pathname in routes) {
      if (pathname !== "/control") {
        run.count("asked");
        if (query.has("seconds")) res.setHeader("Sse-Gateway-Resume", query.get("seconds"));
      }
      await routes[pathname](req, res, run, query);
    } else res.writeHead(404).end();
  } catch (error) {
    if (!res.closed) console.log(`${req.method} ${req.url}: ${error.stack}`);
    res.destroy();
  }
}).listen(process.env.PORT, "127.0.0.1");
