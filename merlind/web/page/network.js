/* Whether the network is there, and pauses that end when it comes back. */
"use strict";

const LONGEST_PAUSE = 30; // seconds

const network = {
  online: navigator.onLine,
  /** Whether the last request that ended got no answer at all. */
  unreachable: false,
  listeners: new Set(),
  sleepers: new Set(),

  /** Call `listener` when anything here changes, and with `true` when requests should be started anew. */
  listen(listener) {
    this.listeners.add(listener);
  },

  reached(yes) {
    if (this.unreachable === !yes) return;
    this.unreachable = !yes;
    this.tell(false);
  },

  /** Wait for some seconds, or until there is reason to look earlier: network, page or phone came back. */
  pause(seconds) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, seconds * 1000);
      this.sleepers.add(wake);
    });
  },

  /** Tell the listeners; `anew`: of a reason to start requests anew, which ends all pauses, too. */
  tell(anew) {
    for (const listener of this.listeners) listener(anew);
    if (anew) for (const wake of [...this.sleepers]) wake();
  },
};

addEventListener("offline", () => {
  network.online = false;
  network.tell(false);
});
addEventListener("online", () => {
  network.online = true;
  network.unreachable = false;
  network.tell(true);
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") network.tell(true);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) network.tell(true);
});

/** Return the pause before a request is tried again, in seconds: longer each time, and never in step with others. */
function backOff(failures) {
  return Math.min(LONGEST_PAUSE, 2 ** failures) * (0.75 + Math.random() / 4);
}

/** Return the seconds of a Retry-After header; null without one, or if it is a date. */
function retryAfter(header) {
  const found = /^\d{1,5}$/.exec(header ?? "");
  return found ? Math.min(3600, Math.max(1, Number(found[0]))) : null;
}

/** Return a body as JSON, if it is an object of ours; null for the page of a proxy. */
function ours(body) {
  try {
    const parsed = JSON.parse(body);
    return parsed !== null && typeof parsed === "object" ? parsed : null;
  } catch {
    return null;
  }
}
