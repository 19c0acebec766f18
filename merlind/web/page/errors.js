/* What went wrong, in words, and whether to try again: by an error's stable code, or else by the HTTP status. */
"use strict";

const BUSY = [429, 502, 503, 504];

/**
 * Return the error of a request that wasn't accepted: {key, values, again}.
 *
 * again: in how many seconds it is worth trying again; null if it isn't.
 */
function requestError(reply, failures, size = 0) {
  const { status, body } = reply;
  const again = BUSY.includes(status) ? (reply.retryAfter ?? Math.ceil(backOff(failures + 2))) : null;
  const values = { status, code: body?.code ?? "", seconds: again, size: formatSize(size) };
  return { key: errorKey(status, body, size), values, again };
}

function errorKey(status, body, size) {
  if (body?.code === "too_large" && size > FACTS.max_photo_bytes) return "error.too_large_by";
  if (body?.code) {
    const key = `error.${body.code}`;
    return hasText(key) ? key : "error.page_fault"; // the other codes tell of requests that this page doesn't make
  }
  if (hasText(`error.http_${status}`)) return `error.http_${status}`;
  return BUSY.includes(status) ? "error.busy" : "error.http";
}

/**
 * Return why there is no score, in words: `error` is a task's {code, detail, source}, a request's with key and values
 * (requestError), or the page's own {code, values}.
 */
function failureText(error) {
  const { code, detail } = error;
  if (error.key) return text(error.key, error.values);
  if (code.startsWith("upstream_")) {
    const known = `refused.${detail}`; // what the face scorer says, docs/scorer.md
    return hasText(known) ? text(known) : text("failed.upstream_error", { detail });
  }
  if (code === "gave_up" && error.source === "merlind") return text("failed.set_up_wrongly");
  if (hasText(`failed.${code}`)) return text(`failed.${code}`);
  return hasText(`error.${code}`) ? text(`error.${code}`, error.values) : text("error.other", { detail: detail ?? code });
}

/** Whether it may help to send the same photo again. */
function mayHelpAgain(error) {
  return !error.code.startsWith("upstream_") && !["bad_name", "not_an_image", "too_large"].includes(error.code);
}
