// The clients that live in a page. The query names one: /page?client=chat&run=name. `report` is the binding by which
// they report to the test: the text that they have so far whenever it changes, and what they have at the end.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, TextStreamChatTransport } from "ai";
import { agent } from "relay.md/agent.js";
import { useAnswers } from "relay.md/ai-sdk.js";
import { ask } from "relay.md/fetch-event-source.js";

const query = new URLSearchParams(location.search);
const to = (path) => path + location.search;

const tell = (kind, value) => window.report(JSON.stringify({ kind, value }));

let last = "";
function tellText(text) {
  if (text !== last) tell("text", (last = text));
}

const fetchOf = window.fetch;
window.fetch = async (...request) => {
  const answer = await fetchOf(...request);
  const key = answer.headers.get("Sse-Gateway-Resume");
  if (key) tell("key", key);
  return answer;
};

// useOwn comes back to the application's own route, when it is told to.
function useOwn(options) {
  const [transport] = useState(() => new DefaultChatTransport({
    api: to("/chat-own"),
    prepareReconnectToStreamRequest: () => ({ api: to("/chat-own/stream") }),
  }));
  const chat = useChat({ ...options, transport });
  useEffect(() => {
    if (chat.status === "error") tell("cut", "");
  }, [chat.status]);
  return chat;
}

function useText(options) {
  const [transport] = useState(() => new TextStreamChatTransport({ api: to("/text-chat") }));
  return useChat({ ...options, transport, generateId: () => "answer" });
}

function Chat({ use }) {
  const { messages, status, sendMessage, resumeStream, stop } = use({ id: "chat" });
  const answer = messages.findLast((message) => message.role === "assistant");
  useEffect(() => tellText(answer?.parts.map((part) => part.text ?? "").join("") ?? ""), [messages]);
  useEffect(() => {
    if (status === "ready" && answer) tell("end", JSON.stringify(answer));
  }, [status]);
  useEffect(() => {
    Object.assign(window, { comeBack: () => void resumeStream(), leave: () => void stop() });
    if (!query.has("reloaded")) setTimeout(() => sendMessage({ text: "Say it." }));
  }, []);
  return <output>{answer?.parts.map((part, i) => <p key={i}>{part.text}</p>)}</output>;
}

function chat(use) {
  const root = document.createElement("main");
  document.body.append(root);
  createRoot(root).render(<Chat use={use} />);
}

async function eventSource() {
  const leaving = new AbortController();
  window.leave = () => leaving.abort();
  let text = "";
  await ask(to("/events"), {
    method: "POST", body: '{"question": "?"}', headers: { "Content-Type": "application/json" },
    signal: leaving.signal, openWhenHidden: true,
    onmessage({ event, data }) {
      if (event === "piece") tellText((text += JSON.parse(data)));
      if (event === "end") tell("last", "");
    },
  });
  tell("end", text);
}

async function agentRun() {
  window.leave = () => agent.abortRun();
  agent.addMessage({ id: "question", role: "user", content: "Say it." });
  let text = "";
  await agent.runAgent({ runId: "run" }, {
    onTextMessageContentEvent: ({ event }) => tellText((text += event.delta)),
    onRunFinishedEvent: () => tell("last", ""),
  });
  tell("end", JSON.stringify(agent.messages));
}

// hypermedia tells of the changes of the element #answer that a library writes, until #state says "complete".
function hypermedia() {
  const [answer, state] = [document.querySelector("#answer"), document.querySelector("#state")];
  const observer = new MutationObserver(() => {
    tellText(answer.textContent);
    if (state.textContent === "complete") {
      observer.disconnect();
      tell("end", answer.innerHTML);
    }
  });
  observer.observe(document.body, { subtree: true, childList: true, characterData: true });
  window.leave = () => location.replace("about:blank");
}

const clients = {
  chat: () => chat(useAnswers),
  own: () => chat(useOwn),
  text: () => chat(useText),
  "fetch-event-source": eventSource,
  agent: agentRun,
  datastar: hypermedia,
  htmx() {
    hypermedia();
    document.addEventListener("htmx:sse:close", ({ detail }) => {
      if (detail.reason === "message") document.querySelector("#state").textContent = "complete";
    });
  },
};

addEventListener("DOMContentLoaded", () => clients[query.get("client")]());
