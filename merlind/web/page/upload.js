/* Sends photos with their names, one after another, until the server has taken each. */
"use strict";

const STALLED = 60; // seconds without a byte or an answer

class Uploads {
  #queue = [];
  #running = false;

  /** `changed(entry)` is called at each step, `accepted(entry)` once the server has given the task its number. */
  constructor(changed, accepted) {
    this.changed = changed;
    this.accepted = accepted;
  }

  add(entry) {
    this.#queue.push(entry);
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#queue.length > 0) await this.#send(this.#queue.shift());
    this.#running = false;
  }

  async #send(entry) {
    // The server knows name and photo again, so a request whose answer was lost can be sent again without harm.
    for (let failures = 0; !entry.forgotten; failures++) {
      const reply = await post(entry, (progress) => this.#progress(entry, progress));
      network.reached(reply !== null || entry.forgotten);
      if (reply?.body?.task) {
        this.#accept(entry, reply.body);
        return;
      }
      if (entry.forgotten) return;
      const error = reply ? requestError(reply, failures, entry.blob.size) : unreachable(failures);
      if (error.again === null) {
        fail(entry, { code: reply.body?.code ?? `http_${reply.status}`, ...error });
        this.changed(entry);
        return;
      }
      await this.#pause(entry, error);
    }
  }

  #progress(entry, progress) {
    entry.state = "sending";
    entry.progress = progress;
    this.changed(entry);
  }

  #accept(entry, { status, task, result }) {
    entry.task = task;
    if (status === "ready") finish(entry, result);
    else entry.state = "waiting";
    this.accepted(entry);
  }

  async #pause(entry, { key, values, again }) {
    entry.notice = { key, values, until: Date.now() + again * 1000 };
    entry.progress = 0;
    this.changed(entry);
    await network.pause(again);
    entry.notice = null;
    this.changed(entry);
  }
}

function unreachable(failures) {
  return { key: "unreachable", values: {}, again: backOff(failures) };
}

/**
 * Post an entry's name and photo; return {status, body, retryAfter}, or null if no answer came.
 *
 * entry.cancel() stops it, but not once all is sent: then the server may have made a task, and its number is needed
 * to erase it.
 */
function post(entry, report) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch doesn't tell how much has gone out
    let stalled;
    const alive = () => {
      clearTimeout(stalled);
      stalled = setTimeout(() => request.abort(), STALLED * 1000);
    };
    request.upload.addEventListener("progress", (event) => {
      alive();
      report(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => (entry.cancel = null));
    request.addEventListener("loadend", () => {
      clearTimeout(stalled);
      entry.cancel = null;
      const { status } = request;
      const wait = retryAfter(status === 0 ? null : request.getResponseHeader("Retry-After"));
      resolve(status === 0 ? null : { status, body: ours(request.responseText), retryAfter: wait });
    });
    entry.cancel = () => request.abort();
    const form = new FormData();
    form.set("name", entry.name);
    form.set("photo", entry.blob, "photo"); // not its own file name, which may tell something
    request.open("POST", "?");
    request.setRequestHeader("Accept", "application/json");
    // No page of another origin may set it, so the server knows us behind any proxy (RFC 7240, section 4.1).
    request.setRequestHeader("Prefer", "respond-async");
    alive();
    report(0);
    request.send(form);
  });
}
