/* Texts, numbers and times in the language of the page. */
"use strict";

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const FACTS = JSON.parse(document.getElementById("facts").textContent);

const plurals = new Intl.PluralRules(FACTS.lang);
const scores = new Intl.NumberFormat(FACTS.lang, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const tenths = new Intl.NumberFormat(FACTS.lang, { maximumFractionDigits: 1 });
const anyNumber = new Intl.NumberFormat(FACTS.lang, { maximumSignificantDigits: 6 });
const moments = new Intl.DateTimeFormat(FACTS.lang, { dateStyle: "long", timeStyle: "short" });
const hours = new Intl.DateTimeFormat(FACTS.lang, { timeStyle: "short" });

/** Return a text with its {placeholders} filled; a text with plurals goes by the value `n`. */
function text(key, values = {}) {
  let found = TEXTS[key];
  if (typeof found === "object") found = found[plurals.select(values.n)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

function hasText(key) {
  return key in TEXTS;
}

/** Return a score as people write it. Only scores from 0 to 1 are on the scale. */
function formatScore(score) {
  return onScale(score) ? scores.format(score) : anyNumber.format(score);
}

function onScale(score) {
  return score >= 0 && score <= 1;
}

/** Return what a score of the face scorer says: the odds score / (1 - score) are P(name | face) / P(name). */
function meaningOf(score) {
  if (FACTS.scorer.kind !== "face" || !onScale(score)) return "";
  if (score > 0.48 && score < 0.52) return text("as_likely");
  const above = score > 0.5;
  const times = above ? score / (1 - score) : (1 - score) / score;
  if (times > 9.9) return text(above ? "much_likelier" : "much_less_likely");
  return text(above ? "likelier" : "less_likely", { times: tenthsAlways(times) });
}

/** Return a number with one decimal, also if that is 0: in Russian the word behind it depends on there being one. */
function tenthsAlways(number) {
  return number.toLocaleString(FACTS.lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

/** Return bytes in the unit that suits, counted in steps of 1,024. */
function formatSize(bytes) {
  if (bytes >= 1048576) return text("unit.mb", { n: tenths.format(bytes / 1048576) });
  if (bytes >= 1024) return text("unit.kb", { n: tenths.format(bytes / 1024) });
  return text("unit.b", { n: bytes });
}

/** Return seconds as "12 s", or from a minute on as "1:05". */
function formatTime(seconds) {
  if (seconds < 60) return text("unit.s", { n: seconds });
  const minutes = Math.floor(seconds / 60);
  const rest = String(seconds % 60).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** Return when something was: only the time if that was today. */
function formatMoment(milliseconds) {
  const moment = new Date(milliseconds);
  return moment.toDateString() === new Date().toDateString() ? hours.format(moment) : moments.format(moment);
}
