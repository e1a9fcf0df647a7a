import { ask } from "./relay.js";

const url = "network/events/answers"; // the way to the gateway that can be cut
const cutTime = 5000; // milliseconds

const byId = id => document.getElementById(id);

let answer; // that is being read
let stopped = false; // by this window
let words = 0;
let cuts = 0;
let cutAt = 0;
let downUntil = 0;

// ---- Reading

async function read(options, how) {
  const mine = answer = ask(url, { ...options, onwait });
  stopped = false;
  words = 0;
  byId("text").textContent = "";
  show("open", "comes");
  note(how);
  try {
    for await (const { data } of mine) {
      if (cutAt) {
        note(`It goes on after ${((Date.now() - cutAt) / 1000).toFixed(1)} s, behind word ${words}.`);
        cutAt = 0;
        show("open", "comes");
      }
      byId("text").append(JSON.parse(data));
      byId("words").textContent = ++words;
      buttons();
    }
    show("whole", stopped ? "stopped" : "has ended");
    note(stopped ? `Stopped behind word ${words}.` : `The answer has ended, with ${words} words.`);
  } catch (problem) {
    show("refused", problem.status === 410 ? "gone" : "lost");
    note(problem.status === 410 ? "This answer is not kept any more. Ask for another." : `There is no answer: ${problem.status ?? problem.message}.`);
  }
  cutAt = 0;
  answer = undefined;
  buttons();
}

function onwait() {
  if (!cutAt) {
    cutAt = Date.now();
    byId("cuts").textContent = ++cuts;
    show("reconnecting", "is cut");
    note(`The network was cut behind word ${words}. The page comes back by itself.`);
  }
}

// ---- The buttons

byId("ask").addEventListener("click", () => {
  history.replaceState(null, "", location.pathname);
  read({ method: "POST", keep: "answer" }, "Asked: a POST to the application.");
});

byId("cut").addEventListener("click", async () => {
  downUntil = Date.now() + cutTime;
  buttons();
  setTimeout(buttons, cutTime);
  await fetch("cut", { method: "POST" });
});

byId("reload").addEventListener("click", () => location.reload());
byId("along").addEventListener("click", () => open(`answers#${first(answer.id)}`, "_blank", "noopener"));

byId("stop").addEventListener("click", async () => {
  stopped = true;
  try {
    await answer.stop();
  } catch {
    stopped = false;
    note("The network is cut, so this window cannot stop the answer now.");
  }
});

// first is the id behind which the answer begins.
function first(id) {
  return id.replace(/\d+$/, "0");
}

function buttons() {
  byId("ask").disabled = Boolean(answer);
  for (const id of ["cut", "reload", "along", "stop"]) {
    byId(id).disabled = !answer?.id;
  }
  byId("cut").disabled ||= Date.now() < downUntil;
}

// ---- What is shown

function show(state, text) {
  byId("state").dataset.state = state;
  byId("state").textContent = text;
  byId("text").dataset.state = state;
  buttons();
}

function note(text) {
  const li = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toTimeString().slice(0, 8);
  const what = document.createElement("span");
  what.textContent = text;
  li.append(time, what);
  byId("events").append(li);
  byId("events").scrollTop = byId("events").scrollHeight;
}

// What the application does is told by a stream of its own, which the button does not cut.
const told = new EventSource(`http://${location.hostname}:${document.body.dataset.gatewayPort}/events/`, { withCredentials: true });
told.addEventListener("application", e => { byId("application").textContent = e.data; });

// ---- The beginning: an answer of another window, or the one that was read here before a reload.

const along = /^#([\da-f]{32}\.\d+)$/.exec(location.hash)?.[1];
if (along) {
  read({ id: first(along) }, "Reads along: the answer of another window, from its first word.");
} else if (sessionStorage.answer) {
  read({ id: first(sessionStorage.answer), keep: "answer" }, "The page was loaded again. It goes back to its answer, from the first word.");
}
