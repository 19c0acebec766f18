/* One name tried with one photo: what the list of results is made of. */
"use strict";

/**
 * Return a new entry.
 *
 * run, photo, order: which submission it belongs to (its time), which of its photos, and which of its names.
 * state: preparing, queued, sending, waiting (the server has it), done, failed or forgetting.
 * notice: {key, values, until}, why it waits and until when, in milliseconds; or null.
 */
function newEntry({ name, run, photo, order }) {
  return {
    name, run, photo, order,
    at: Date.now(), state: "preparing", progress: 0, notice: null, failures: 0, forgotten: false,
    task: null, result: null, error: null, blob: null, thumbnail: null, preview: null, cancel: null,
  }; // prettier-ignore
}

/** Return an entry as the device remembers it; `unsent` if a reload cut off its sending. */
function rememberedEntry(kept, unsent = false) {
  const entry = { ...newEntry(kept), ...kept };
  if (unsent) fail(entry, { code: "interrupted" });
  else if (typeof kept.result === "number") finish(entry, kept.result);
  else if (kept.error) fail(entry, kept.error);
  else entry.state = "waiting";
  return entry;
}

function finish(entry, result) {
  Object.assign(entry, { state: "done", result, error: null, notice: null });
}

function fail(entry, error) {
  Object.assign(entry, { state: "failed", result: null, error, notice: null });
}

/** Whether nothing is going to change any more. */
function isOver(entry) {
  return entry.state === "done" || entry.state === "failed";
}

/** Whether the server has not said yet that it took the photo. */
function isUnsent(entry) {
  return ["preparing", "queued", "sending"].includes(entry.state);
}
