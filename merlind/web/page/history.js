/* What this device remembers of finished and unfinished tasks, and erasing them on the server. */
"use strict";

const MOST_REMEMBERED = 100;
const REMEMBERED = ["task", "name", "thumbnail", "run", "photo", "order", "at", "result", "error"];

/** The entries in the browser's storage, one item each, so that pages open side by side don't undo each other. */
class DeviceHistory {
  constructor() {
    this.prefix = `merlind ${location.pathname} `; // there may be another merlind at this host
    this.full = false;
    this.forgetful = this.#read(localOrNull(), "forgetful") === true;
  }

  /** Return the entries, the newest first: also those of which only the erasing is left, {task, erase: true}. */
  entries() {
    const storage = localOrNull();
    const found = [];
    for (let index = 0; storage && index < storage.length; index++) {
      const entry = this.parse(storage.key(index), storage.getItem(storage.key(index)));
      if (entry) found.push(entry);
    }
    return found.sort((one, other) => (other.at ?? 0) - (one.at ?? 0));
  }

  /** Return what an item holds; null if it is none of ours. */
  parse(key, value) {
    if (!key?.startsWith(this.prefix) || !/^[0-9]+$/.test(key.slice(this.prefix.length))) return null;
    const entry = ours(value);
    return entry && Number.isSafeInteger(entry.task) ? entry : null;
  }

  save(entry) {
    if (this.forgetful || !entry.task) return;
    const kept = Object.fromEntries(REMEMBERED.map((field) => [field, entry[field]]));
    this.full = !this.#write(entry.task, kept);
    for (const old of this.entries().slice(MOST_REMEMBERED)) if (!old.erase) this.remove(old.task);
  }

  /** Keep of an entry only that it is to be erased. */
  saveErasure(task) {
    if (!this.#write(task, { task, erase: true })) this.remove(task);
  }

  remove(task) {
    localOrNull()?.removeItem(this.prefix + task);
  }

  /** Remember nothing from now on, and drop what is remembered; or remember again. */
  setForgetful(yes) {
    this.forgetful = yes;
    if (yes) for (const entry of this.entries()) if (!entry.erase) this.remove(entry.task);
    if (yes) this.#write("forgetful", true);
    else this.remove("forgetful");
    if (yes) this.saveUnsent([]);
  }

  /** Return the entries whose sending a reload of this tab has cut off. */
  unsent() {
    const found = this.#read(sessionOrNull(), "unsent");
    return Array.isArray(found) ? found : [];
  }

  saveUnsent(entries) {
    const kept = entries.map(({ name, thumbnail, run, photo, order, at }) => ({ name, thumbnail, run, photo, order, at }));
    try {
      if (this.forgetful || kept.length === 0) sessionOrNull()?.removeItem(`${this.prefix}unsent`);
      else sessionOrNull()?.setItem(`${this.prefix}unsent`, JSON.stringify(kept));
    } catch {
      // Full: then a reload loses what it cut off without a word.
    }
  }

  #read(storage, key) {
    try {
      return JSON.parse(storage?.getItem(this.prefix + key) ?? "null");
    } catch {
      return null;
    }
  }

  /** Write an item, if need be in place of the oldest; return whether it is there. */
  #write(key, value) {
    const storage = localOrNull();
    for (;;) {
      try {
        storage?.setItem(this.prefix + key, JSON.stringify(value));
        return storage !== null;
      } catch {
        const oldest = this.entries().filter((entry) => !entry.erase && entry.task !== key).pop();
        if (!oldest) return false;
        this.remove(oldest.task);
      }
    }
  }
}

/** Return the storage that lasts; null where the browser blocks it, which may happen at any time. */
function localOrNull() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** Return the storage of this tab; null where the browser blocks it. */
function sessionOrNull() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

/** Erases tasks on the server, one after another, until each is gone there, however long the network is away. */
class Eraser {
  #queue = [];
  #running = false;

  /** `gone(task)` is called when the server has nothing of a task any more. */
  constructor(gone) {
    this.gone = gone;
  }

  add(task) {
    this.#queue.push(task);
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    for (let failures = 0; this.#queue.length > 0; ) {
      const pause = await this.#erase(this.#queue[0], failures);
      if (pause === null) {
        this.gone(this.#queue.shift());
        failures = 0;
      } else {
        failures++;
        await network.pause(pause);
      }
    }
    this.#running = false;
  }

  /** Ask for it once; return null if the task is gone, or else how long to wait, in seconds. */
  async #erase(task, failures) {
    try {
      const response = await fetch(`?task_id=${task}`, {
        method: "DELETE",
        headers: { Accept: "application/json" },
        cache: "no-store",
      });
      const body = ours(await response.text());
      network.reached(true);
      if (response.status === 204 || (response.status === 404 && body?.status === "not_found")) return null;
      return retryAfter(response.headers.get("Retry-After")) ?? backOff(failures + 2);
    } catch {
      network.reached(false);
      return backOff(failures);
    }
  }
}
