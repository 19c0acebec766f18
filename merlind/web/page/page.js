/* Puts the parts of the page together. */
"use strict";

document.documentElement.classList.add("js");
if (navigator.maxTouchPoints > 0) document.documentElement.classList.add("touch");
for (const part of document.querySelectorAll("[data-script]")) part.hidden = false;

const deviceHistory = new DeviceHistory();
const view = new View({ forget, again });
const uploads = new Uploads((entry) => changed(entry), accepted);
const follower = new Follower((entry) => changed(entry));
const eraser = new Eraser(gone);
let entries = [];

/** Start to try each photo with each name. */
async function start(picks, names) {
  const run = Math.max(Date.now(), ...entries.map((entry) => entry.run + 1));
  const added = picks.flatMap((pick, photo) => {
    return names.map((name, order) => {
      const entry = newEntry({ name, run, photo, order });
      entry.preview = pick.prepared?.preview ?? null;
      return [entry, pick];
    });
  });
  entries = [...added.map(([entry]) => entry), ...entries];
  view.arrange(entries);
  bringIntoView();
  for (const [entry, pick] of added) await send(entry, pick);
}

async function send(entry, pick) {
  await pick.ready;
  if (entry.forgotten) return;
  if (pick.problem) {
    fail(entry, pick.problem);
  } else {
    const { blob, preview, thumbnail } = pick.prepared;
    Object.assign(entry, { blob, preview, thumbnail, state: "queued" });
    uploads.add(entry);
  }
  rememberUnsent();
  view.arrange(entries);
  changed(entry);
}

/** Show and remember an entry's new state. */
function changed(entry) {
  if (entry.forgotten) return;
  view.update(entry);
  if (!isOver(entry)) return;
  rememberUnsent();
  deviceHistory.save(entry);
  showMemory();
  view.arrange(entries);
  say(`${entry.name}: ${entry.state === "done" ? text("score_is", { score: formatScore(entry.result) }) : failureText(entry.error)}`);
  if (document.hidden) document.title = `✓ ${text("title")}`;
}

/** The server has taken an entry: from here on its number is enough to go on, whatever happens to this page. */
function accepted(entry) {
  if (entry.forgotten) {
    eraser.add(entry.task);
    return;
  }
  entries = entries.filter((other) => other === entry || other.task !== entry.task); // it has been tried before
  deviceHistory.save(entry);
  rememberUnsent();
  showMemory();
  view.arrange(entries);
  changed(entry);
  if (entry.state === "waiting") follower.add(entry);
}

/** Keep what a reload would cut off, so that the page can say so afterwards. The photo itself is not kept. */
function rememberUnsent() {
  deviceHistory.saveUnsent(entries.filter((entry) => isUnsent(entry) && !entry.forgotten));
}

function again(entry) {
  if (entry.task) deviceHistory.remove(entry.task);
  Object.assign(entry, { task: null, error: null, state: "queued", at: Date.now(), failures: 0 });
  rememberUnsent();
  uploads.add(entry);
  view.arrange(entries);
}

/** Erase an entry here at once, and on the server as soon as that can be reached. */
function forget(entry) {
  moveFocusFrom(entry);
  entry.forgotten = true;
  entry.state = "forgetting";
  entry.cancel?.();
  follower.leave(entry);
  if (entry.task) {
    deviceHistory.saveErasure(entry.task);
    view.update(entry);
    eraser.add(entry.task);
  } else {
    drop(entry);
  }
  rememberUnsent();
}

function gone(task) {
  deviceHistory.remove(task);
  const entry = entries.find((other) => other.task === task && other.forgotten);
  if (entry) drop(entry);
}

function drop(entry) {
  entries = entries.filter((other) => other !== entry);
  view.arrange(entries);
}

/** Keep the keyboard's place in the list when a line goes. */
function moveFocusFrom(entry) {
  const buttons = [...document.querySelectorAll(".forget")];
  const index = buttons.indexOf(document.activeElement);
  if (index < 0) return;
  const next = buttons[index + 1] ?? buttons[index - 1] ?? document.getElementById("results-title");
  next.focus({ preventScroll: true });
}

function forgetAll() {
  const all = entries.filter((entry) => !entry.forgotten);
  if (!confirm(text("forget_all_sure", { n: all.length }))) return;
  document.getElementById("results-title").focus();
  for (const entry of all) forget(entry);
}

function showMemory() {
  const note = deviceHistory.full && !deviceHistory.forgetful ? text("not_remembered") : "";
  change(document.getElementById("memory-note"), note);
}

/** On a narrow screen the results are below the form. */
function bringIntoView() {
  const results = document.getElementById("results");
  const box = results.getBoundingClientRect();
  if (box.top < innerHeight / 2) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  results.scrollIntoView({ behavior: still ? "auto" : "smooth" });
}

/** Take over what a page beside this one did with the same list. */
function heardFromAnotherPage({ key, newValue }) {
  const kept = deviceHistory.parse(key, newValue ?? "{}");
  const task = Number(key?.slice(deviceHistory.prefix.length));
  const known = entries.find((entry) => entry.task === task);
  if (!key?.startsWith(deviceHistory.prefix) || known?.forgotten) return;
  if (!kept || kept.erase) {
    if (known) {
      known.forgotten = true;
      known.state = "forgetting";
      follower.leave(known);
      drop(known);
    }
  } else if (!known) {
    load(rememberedEntry(kept));
    view.arrange(entries);
  } // else this page follows it, too
}

function load(entry) {
  entries.push(entry);
  if (entry.state === "waiting") follower.add(entry);
}

function begin() {
  new Chooser(start);
  for (const kept of deviceHistory.unsent()) load(rememberedEntry(kept, true));
  for (const kept of deviceHistory.entries()) {
    if (kept.erase) eraser.add(kept.task);
    else load(rememberedEntry(kept));
  }
  view.arrange(entries);

  document.getElementById("forget-all").addEventListener("click", forgetAll);
  const forgetful = document.getElementById("forgetful");
  forgetful.checked = deviceHistory.forgetful;
  forgetful.addEventListener("change", () => {
    deviceHistory.setForgetful(forgetful.checked);
    for (const entry of entries) if (!entry.forgotten) deviceHistory.save(entry);
    showMemory();
  });
  addEventListener("storage", heardFromAnotherPage);
  addEventListener("beforeunload", (event) => {
    if (entries.some(isUnsent)) event.preventDefault(); // the browser asks whether to leave
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.title = text("title");
  });
  setInterval(() => view.tick(entries), 1000);
}

begin();
