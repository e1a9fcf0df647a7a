"use strict";

// The gateway is another origin than the page: the same host, another port.
const gateway = `http://${location.hostname}:${document.body.dataset.gatewayPort}`;

const byId = id => document.getElementById(id);
const kept = 200; // entries of a list

// ---- The stream

let stream;
let openedTimes = 0;
let lostAt = 0;
let waiting; // timer
const names = []; // of the events that are shown

// A browser keeps the seventh connection to a site waiting, without a word.
const waitsLong = 3000; // milliseconds

function explainWaiting() {
  if (stream.readyState === EventSource.CONNECTING) {
    setState("connecting", "waiting for a connection");
    note("The browser has no connection left for this tab. Over HTTP/1.1 it opens at most six to a site, for all tabs together, and each tab of this demo holds one. " +
      "Close another tab. With HTTP/2 there is no such limit.");
  }
}

function open() {
  clearTimeout(waiting);
  waiting = setTimeout(explainWaiting, waitsLong);
  // With credentials, the gateway gets the page's cookies, and passes them to the backend.
  stream = new EventSource(`${gateway}/events/`, { withCredentials: true });
  stream.onopen = () => {
    clearTimeout(waiting);
    openedTimes++;
    byId("opened").textContent = openedTimes;
    setState("open", "open");
    if (lostAt) {
      note(`The browser has opened the stream again, after ${((Date.now() - lostAt) / 1000).toFixed(1)} s.`);
    }
    lostAt = 0;
  };
  stream.onerror = () => {
    clearTimeout(waiting);
    if (stream.readyState === EventSource.CLOSED) {
      // A browser gives up when the answer is an error. From here on it is on us.
      setState("refused", "refused, next try in 5 s");
      setTimeout(open, 5000);
    } else if (!lostAt) {
      lostAt = Date.now();
      setState("reconnecting", "reconnecting");
      note("The stream has ended. The browser reconnects by itself.");
    }
  };
  stream.addEventListener("clock", e => { byId("clock").textContent = e.data; });
  stream.addEventListener("callbacks", e => JSON.parse(e.data).forEach(showCallback));
  stream.addEventListener("welcome", e => { byId("user").textContent = /^You are ([^.]*)/.exec(e.data)?.[1] ?? ""; });
  names.forEach(name => stream.addEventListener(name, showEvent));
}

function listen(name) {
  if (name === "" || names.includes(name) || name === "clock" || name === "callbacks" || name === "open" || name === "error") {
    return;
  }
  names.push(name);
  stream?.addEventListener(name, showEvent);
  const code = document.createElement("code");
  code.textContent = name;
  byId("names").append(names.length > 1 ? ", " : "", code);
}

function setState(state, text) {
  byId("state").dataset.state = state;
  byId("state").textContent = text;
}

// ---- The lists. What came from elsewhere becomes text, never markup.

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function clockTime(ms) {
  const d = new Date(ms);
  const e = element("time", "", d.toTimeString().slice(0, 8) + "." + String(d.getMilliseconds()).padStart(3, "0"));
  e.dateTime = d.toISOString();
  return e;
}

function showEvent(e) {
  const li = document.createElement("li");
  li.append(clockTime(Date.now()), element("b", "", e.type), element("pre", "", e.data));
  const command = /^curl .*$/m.exec(e.data)?.[0];
  if (command) {
    const button = element("button", "quiet copy", "Copy the command");
    button.type = "button";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        button.textContent = "The browser does not let this page copy";
      }
    });
    li.append(button);
  }
  append(li);
}

function note(text) {
  const li = document.createElement("li");
  li.append(clockTime(Date.now()), element("span", "note", text));
  append(li);
}

function append(li) {
  const list = byId("events");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(li);
  while (list.children.length > kept) {
    list.firstChild.remove();
  }
  if (atEnd) {
    list.scrollTop = list.scrollHeight;
  }
}

const seen = new Set();

function showCallback(c) {
  if (seen.has(c.key)) {
    return; // a stream that opens gets the last ones again
  }
  seen.add(c.key);
  const { key, time, user, status, ...body } = c;
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const about = [user || "a stranger", c.reason, c.detail, `answered ${status}`].filter(Boolean).join(" · ");
  summary.append(clockTime(time), element("b", "", c.action), " ", element("span", "meta", about));
  details.append(summary, element("pre", "", JSON.stringify(body, null, 2)));
  const li = element("li", c.action, "");
  li.append(details);
  const list = byId("callbacks");
  list.prepend(li);
  while (list.children.length > kept) {
    list.lastChild.remove();
  }
}

// ---- The buttons: requests to the backend, which sends through the gateway.

async function post(path, body) {
  const result = byId("result");
  try {
    const response = await fetch(path, { method: "POST", body });
    result.className = response.ok ? "" : "bad";
    result.textContent = await response.text();
  } catch {
    result.className = "bad";
    result.textContent = "The backend does not answer.";
  }
}

byId("form").addEventListener("submit", e => {
  e.preventDefault();
  const fields = new URLSearchParams(new FormData(e.target, e.submitter));
  listen(fields.get("name"));
  post("/send", fields);
});
byId("close").addEventListener("click", () => post("/close"));
byId("clear").addEventListener("click", () => {
  byId("events").replaceChildren();
  byId("events").classList.add("cleared");
});

["message", "hello", "welcome", "goodbye", "news"].forEach(listen);
open();
