/* Asks how tasks stand, by long polls, until each has a score or has failed. */
"use strict";

const MOST_OPEN = 4; // a browser has six connections to a server; an upload and an erasure need theirs
const WAIT = 25; // seconds a long poll lasts: below the 30 to 60 after which proxies cut it off
const WAIT_IN_TURN = 5; // if more tasks are there than may be asked for at once
const GRACE = 15; // seconds that an answer may be late
const STALE = 5; // seconds after which an open request is not trusted when network or page come back

class Follower {
  #queue = [];
  #open = new Map();

  /** `changed(entry)` is called when there is news, also of trouble. */
  constructor(changed) {
    this.changed = changed;
    network.listen((anew) => anew && this.#restart());
  }

  add(entry) {
    this.#queue.push(entry);
    this.#next();
  }

  /** Stop to ask for an entry, which is not waiting any more. */
  leave(entry) {
    const poll = this.#open.get(entry);
    if (poll) dropPoll(poll);
  }

  #next() {
    while (this.#open.size < MOST_OPEN && this.#queue.length > 0) {
      const entry = this.#queue.shift();
      if (entry.state === "waiting") this.#ask(entry);
    }
  }

  async #ask(entry) {
    const poll = { controller: new AbortController(), since: Date.now(), dropped: false };
    this.#open.set(entry, poll);
    const pause = await this.#poll(entry, poll);
    this.#open.delete(entry);
    this.#next();
    if (entry.state !== "waiting") return;
    if (pause > 0) await network.pause(pause);
    this.add(entry);
  }

  /** Ask once; return how long to wait before asking again, in seconds. */
  async #poll(entry, poll) {
    const wait = this.#queue.length > 0 ? WAIT_IN_TURN : WAIT;
    const timer = setTimeout(() => poll.controller.abort(), (wait + GRACE) * 1000);
    try {
      const response = await fetch(`?task_id=${entry.task}`, {
        headers: { Accept: "application/json", Prefer: `wait=${wait}` },
        signal: poll.controller.signal,
        cache: "no-store", // else a browser sends requests for the same URL one after another
      });
      const reply = {
        status: response.status,
        body: ours(await response.text()),
        retryAfter: retryAfter(response.headers.get("Retry-After")),
        held: response.headers.has("Preference-Applied"),
      };
      network.reached(true);
      return this.#apply(entry, reply);
    } catch {
      if (poll.dropped) return 0;
      network.reached(false);
      return backOff(entry.failures++);
    } finally {
      clearTimeout(timer);
    }
  }

  #apply(entry, { status, body, retryAfter, held }) {
    if (entry.state !== "waiting") return 0; // forgotten meanwhile
    if (status === 202) {
      this.#notice(entry, null);
      entry.failures = 0;
      return held ? 0 : (retryAfter ?? 1);
    }
    if (status === 200 && body?.status === "ready") finish(entry, body.result);
    else if (status === 200 && body?.status === "failed") fail(entry, body.error);
    else if (status === 404 && body?.status === "not_found") fail(entry, { code: "not_found" });
    else {
      const error = requestError({ status, body, retryAfter }, entry.failures++);
      const again = error.again ?? Math.ceil(backOff(entry.failures + 2));
      this.#notice(entry, body?.code === "too_many_long_polls" ? null : { ...error, until: Date.now() + again * 1000 });
      return again;
    }
    this.changed(entry);
    return 0;
  }

  #notice(entry, notice) {
    if (entry.notice === notice) return;
    entry.notice = notice;
    this.changed(entry);
  }

  /** Drop the requests that a sleep or another network has probably cut off, without anybody saying so. */
  #restart() {
    for (const poll of this.#open.values()) {
      if (Date.now() - poll.since < STALE * 1000) continue;
      dropPoll(poll);
    }
  }
}

/** End a request by the page's own will: nothing went wrong. */
function dropPoll(poll) {
  poll.dropped = true;
  poll.controller.abort();
}
