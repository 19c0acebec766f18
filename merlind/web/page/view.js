/* Shows the entries: by submission, newest first, with photo, name, gauge and score. */
"use strict";

const LONG = 60; // seconds after which waiting counts as long

/** Make an element with these properties. */
function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Have a screen reader say something, after what it says now. */
function say(words) {
  const line = element("p", { textContent: words });
  document.getElementById("live").append(line);
  setTimeout(() => line.remove(), 10000);
}

class View {
  #runs = document.getElementById("runs");
  #nodes = new Map();
  #rows = new Map();

  constructor({ forget, again }) {
    this.forget = forget;
    this.again = again;
    network.listen(() => this.#showNetwork());
    this.#showNetwork();
  }

  /** Put all entries in order: runs by time; photos and names as sent, and by score once all of a run are over. */
  arrange(entries) {
    const focused = document.activeElement;
    const before = this.#positions();
    const used = new Set();
    const node = (key, make) => {
      used.add(key);
      if (!this.#nodes.has(key)) this.#nodes.set(key, make());
      return this.#nodes.get(key);
    };

    const runs = [...groupBy(entries, "run")].sort(([one], [other]) => other - one);
    const sections = runs.map(([run, ofRun], index) => {
      const section = node(`${run}`, () => makeRun(run));
      const photos = [...groupBy(ofRun, "photo").values()];
      const over = ofRun.every(isOver);
      photos.sort((one, other) => (over && best(other) - best(one)) || one[0].photo - other[0].photo);
      section.classList.toggle("latest", index === 0);
      section.classList.toggle("single", ofRun.length === 1);
      section.classList.toggle("several-photos", photos.length > 1);
      const subjects = photos.map((ofPhoto) => {
        const subject = node(`${run} ${ofPhoto[0].photo}`, makeSubject);
        ofPhoto.sort((one, other) => (over && scoreOf(other) - scoreOf(one)) || one.order - other.order);
        showPicture(subject.querySelector(".picture"), ofPhoto[0]);
        place(subject.querySelector("ul"), ofPhoto.map((entry) => this.#row(entry)));
        return subject;
      });
      this.#putScale(photos.flat(), over);
      place(section.querySelector(".subjects"), subjects);
      return section;
    });
    place(this.#runs, sections);

    for (const key of this.#nodes.keys()) if (!used.has(key)) this.#nodes.delete(key);
    for (const entry of this.#rows.keys()) if (!entries.includes(entry)) this.#rows.delete(entry);
    document.getElementById("none").hidden = entries.length > 0;
    document.getElementById("about").hidden = entries.length === 0 || FACTS.scorer.kind === "stand-in"; // said above
    document.getElementById("forget-all").hidden = entries.length === 0;
    for (const entry of entries) this.update(entry);
    this.#slide(before);
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  /** Show how one entry stands. */
  update(entry) {
    const row = this.#rows.get(entry);
    if (!row) return;
    row.dataset.state = entry.state;
    showGauge(row.querySelector(".gauge"), entry);
    change(row.querySelector(".value"), entry.state === "done" ? formatScore(entry.result) : "");
    change(row.querySelector(".state"), stateText(entry));
    row.querySelector(".again").hidden = !(entry.state === "failed" && entry.blob && mayHelpAgain(entry.error));
    row.querySelector(".forget").disabled = entry.state === "forgetting";
  }

  /** Show the time so far, and in place of what a score means that it takes long. */
  tick(entries) {
    for (const entry of entries) if (!isOver(entry)) this.update(entry);
    for (const [run, ofRun] of groupBy(entries, "run")) {
      const long = ofRun.some((entry) => entry.state === "waiting" && secondsSince(entry.at) >= LONG);
      change(this.#nodes.get(`${run}`).querySelector(".note"), long ? text("long") : meaningOfAll());
    }
  }

  #row(entry) {
    if (!this.#rows.has(entry)) this.#rows.set(entry, makeRow(entry, this.forget, this.again));
    return this.#rows.get(entry);
  }

  /** Write the scale below the last gauge: of those with a score, once nothing changes any more. */
  #putScale(entries, over) {
    const last = over ? entries.findLast((entry) => entry.state === "done") : entries.at(-1);
    for (const entry of entries) this.#rows.get(entry).classList.toggle("scaled", entry === last);
  }

  #showNetwork() {
    const words = !network.online ? text("offline") : network.unreachable ? text("unreachable") : "";
    change(document.getElementById("network"), words);
  }

  #positions() {
    return new Map([...this.#rows.values()].map((row) => [row, row.getBoundingClientRect().top]));
  }

  /** Let rows that have another place glide there, so that the eye can follow. */
  #slide(before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const row of this.#rows.values()) {
      const way = before.get(row) - row.getBoundingClientRect().top;
      if (way) row.animate([{ transform: `translateY(${way}px)` }, { transform: "none" }], { duration: 300, easing: "ease" });
    }
  }
}

function makeRun(run) {
  const section = element("section", { className: "run" });
  const time = element("time", { dateTime: new Date(run).toISOString(), textContent: formatMoment(run) });
  const heading = element("h3");
  heading.append(time);
  const note = element("p", { className: "note", textContent: meaningOfAll() });
  section.append(heading, element("div", { className: "subjects" }), note);
  return section;
}

function makeSubject() {
  const subject = element("div", { className: "subject" });
  subject.append(element("div", { className: "picture" }), element("ul", { className: "rows" }));
  return subject;
}

/** Make what is written below a gauge, of which only the last of a run's is shown. */
function makeScale() {
  const scale = element("div", { className: "scale" });
  scale.setAttribute("aria-hidden", "true"); // the gauges say it
  const marks = FACTS.scorer.kind === "face" ? [text("scale_low"), "½", text("scale_high")] : ["0", "½", "1"];
  scale.append(...marks.map((mark) => element("span", { textContent: mark })));
  return scale;
}

/** Return what a run's scores mean. */
function meaningOfAll() {
  return text(FACTS.scorer.kind === "stand-in" ? "about" : "meaning");
}

function makeRow(entry, forget, again) {
  const row = element("li", { className: "row" });
  const name = element("span", { className: "name", dir: "auto", textContent: entry.name });
  const gauge = element("div", { className: "gauge" });
  gauge.append(element("i"));
  const forgetting = element("button", { type: "button", className: "forget", title: text("forget") });
  forgetting.append(element("span", { textContent: text("forget") }));
  forgetting.setAttribute("aria-label", `${text("forget")}: ${entry.name}`);
  forgetting.addEventListener("click", () => forget(entry));
  const trying = element("button", { type: "button", className: "again", textContent: text("again"), hidden: true });
  trying.addEventListener("click", () => again(entry));
  const state = element("p", { className: "state" });
  row.append(name, element("span", { className: "value" }), gauge, makeScale(), state, trying, forgetting);
  return row;
}

function showPicture(place, { preview, thumbnail }) {
  const source = preview ?? thumbnail ?? "";
  if (place.dataset.source === source) return;
  place.dataset.source = source;
  place.classList.toggle("small", !preview);
  place.replaceChildren(...(source ? [element("img", { src: source, alt: "" })] : []));
}

/** Make the gauge a progress bar until there is a score on the scale, and then a meter. */
function showGauge(gauge, entry) {
  const metered = entry.state === "done" && onScale(entry.result);
  gauge.hidden = isOver(entry) && !metered;
  gauge.setAttribute("role", metered ? "meter" : "progressbar");
  gauge.setAttribute("aria-label", `${text("score")}: ${entry.name}`);
  gauge.setAttribute("aria-valuemin", "0");
  gauge.setAttribute("aria-valuemax", metered ? "1" : "100");
  if (metered) {
    gauge.setAttribute("aria-valuenow", entry.result);
    gauge.setAttribute("aria-valuetext", [formatScore(entry.result), meaningOf(entry.result)].filter(Boolean).join(". "));
    gauge.classList.toggle("below", FACTS.scorer.kind === "face" && entry.result < 0.5);
    gauge.style.setProperty("--score", entry.result);
    return;
  }
  gauge.removeAttribute("aria-valuetext");
  if (entry.state === "sending") gauge.setAttribute("aria-valuenow", percent(entry));
  else gauge.removeAttribute("aria-valuenow");
  gauge.style.setProperty("--progress", entry.state === "sending" ? entry.progress : 0);
}

/** Return how an entry stands, in one line. */
function stateText(entry) {
  const { state, notice } = entry;
  if (state === "failed") return failureText(entry.error);
  if (state === "done") return meaningOf(entry.result);
  if (state === "forgetting") return text("forgetting");
  if (notice?.key === "unreachable") return text("paused");
  if (notice) return text(notice.key, { ...notice.values, seconds: Math.max(0, Math.ceil((notice.until - Date.now()) / 1000)) });
  if (state === "sending") return text("sending", { percent: percent(entry) });
  if (state === "waiting") return text("waiting", { time: formatTime(secondsSince(entry.at)) });
  return text(state);
}

function percent(entry) {
  return Math.floor(entry.progress * 100);
}

function secondsSince(milliseconds) {
  return Math.max(0, Math.floor((Date.now() - milliseconds) / 1000));
}

function scoreOf(entry) {
  return entry.result ?? -Infinity;
}

function best(entries) {
  return Math.max(...entries.map((entry) => entry.result ?? Number.MIN_SAFE_INTEGER));
}

function groupBy(entries, field) {
  const groups = new Map();
  for (const entry of entries) {
    if (!groups.has(entry[field])) groups.set(entry[field], []);
    groups.get(entry[field]).push(entry);
  }
  return groups;
}

/** Make these nodes the children of `parent`, moving none that is in its place. */
function place(parent, nodes) {
  for (const child of [...parent.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

/** Set a text if it is another one: nothing that listens to changes hears of the same again. */
function change(node, words) {
  if (node.textContent !== words) node.textContent = words;
}
