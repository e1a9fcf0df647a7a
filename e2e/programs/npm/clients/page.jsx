// The clients that live in a page. The query names one: /page?client=chat&run=name. `report` is the binding by which
// they report to the test: the text that they have so far whenever it changes, and what they have at the end.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { EventStreamContentType, fetchEventSource } from "@microsoft/fetch-event-source";

const query = new URLSearchParams(location.search);
const to = (path) => path + location.search;

const tell = (kind, value) => window.report(JSON.stringify({ kind, value }));

let last = "";
function tellText(text) {
  if (text !== last) tell("text", (last = text));
}

// resumable is a transport that comes back by the gateway's key.
const resumable = () =>
  new DefaultChatTransport({
    api: to("/chat"),
    fetch: async (url, init) => {
      const answer = await fetch(url, init);
      const key = answer.headers.get("Sse-Gateway-Resume");
      if (key) sessionStorage.setItem("resume", key);
      return answer;
    },
    prepareReconnectToStreamRequest: () => ({
      api: to("/chat"),
      headers: { "Last-Event-ID": sessionStorage.getItem("resume") ?? "" },
    }),
  });

// own is a transport that comes back to the application's own route.
const own = () =>
  new DefaultChatTransport({
    api: to("/chat-own"),
    prepareReconnectToStreamRequest: () => ({ api: to("/chat-own/stream") }),
  });

function Chat({ makeTransport }) {
  const [transport] = useState(makeTransport);
  const { messages, status, sendMessage, resumeStream, stop } = useChat({ id: "chat", transport, resume: query.has("reloaded") });
  const answer = messages.findLast((message) => message.role === "assistant");
  useEffect(() => tellText(answer?.parts.map((part) => part.text ?? "").join("") ?? ""), [messages]);
  useEffect(() => {
    if (status === "ready" && answer) tell("end", JSON.stringify(answer));
    if (status === "error") tell("cut", "");
  }, [status]);
  useEffect(() => {
    Object.assign(window, {
      comeBack: () => void resumeStream(),
      leave: () => void stop(),
      async stopAnswer() {
        await fetch(to("/chat"), { method: "DELETE", keepalive: true, headers: { "Last-Event-ID": sessionStorage.getItem("resume") } });
        stop();
      },
    });
    if (!query.has("reloaded")) sendMessage({ text: "Say it." });
  }, []);
  return <output>{answer?.parts.map((part, i) => <p key={i}>{part.text}</p>)}</output>;
}

function chat(makeTransport) {
  const root = document.createElement("main");
  document.body.append(root);
  createRoot(root).render(<Chat makeTransport={makeTransport} />);
}

function eventSource() {
  const leaving = new AbortController();
  window.leave = () => leaving.abort();
  let text = "";
  fetchEventSource(to("/events"), {
    method: "POST", body: '{"question": "?"}', headers: { "Content-Type": "application/json" },
    signal: leaving.signal, openWhenHidden: true,
    async onopen(response) {
      if (response.status === 204) throw new Complete(); // it came back behind the end
      const key = response.headers.get("Sse-Gateway-Resume");
      if (key) tell("key", key);
      if (!response.headers.get("Content-Type")?.startsWith(EventStreamContentType)) throw new Error(response.status);
    },
    onmessage({ event, data }) {
      if (event === "piece") tellText((text += JSON.parse(data)));
      if (event === "end") tell("last", "");
    },
    onclose: () => tell("end", text),
    onerror(error) {
      if (error instanceof Complete) throw error;
      return 50; // milliseconds
    },
  }).catch((error) => tell("end", error instanceof Complete ? text : String(error)));
}

class Complete extends Error {}

// hypermedia tells of the changes of the element #out that a library writes, until #state says "complete".
function hypermedia() {
  const [out, state] = [document.querySelector("#out"), document.querySelector("#state")];
  const observer = new MutationObserver(() => {
    tellText(out.textContent);
    if (state.textContent === "complete") {
      observer.disconnect();
      tell("end", out.innerHTML);
    }
  });
  observer.observe(document.body, { subtree: true, childList: true, characterData: true });
  window.leave = () => location.replace("about:blank");
}

const clients = {
  chat: () => chat(resumable),
  own: () => chat(own),
  "fetch-event-source": eventSource,
  datastar: hypermedia,
  htmx() {
    hypermedia();
    document.addEventListener("htmx:sse:close", ({ detail }) => {
      if (detail.reason === "message") document.querySelector("#state").textContent = "complete";
    });
  },
};

addEventListener("DOMContentLoaded", () => clients[query.get("client")]());
