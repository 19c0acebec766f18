/* The form: photos by choosing, dropping, pasting or the camera, and names by comma. */
"use strict";

const MOST_TRIES = 100;
const LONGEST_NAME = 200;

class Chooser {
  #form = document.getElementById("form");
  #photo = document.getElementById("photo");
  #name = document.getElementById("name");
  #list = document.getElementById("picked");
  #drop = document.getElementById("drop");
  #picks = [];
  #tried = false;
  #turn = Promise.resolve();

  /** `submitted(picks, names)` gets what is to be tried; a pick is {file, ready, prepared}. */
  constructor(submitted) {
    this.submitted = submitted;
    this.#takeOver();
    for (const input of [this.#photo, document.getElementById("camera")]) {
      input.addEventListener("change", () => {
        this.add(input.files);
        input.value = ""; // so that the same photo can be chosen again
      });
    }
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#listenForPaste();
    this.#listenForDrop();
  }

  /** Change the form for several photos and names, which without JavaScript has one of each. */
  #takeOver() {
    this.#form.noValidate = true;
    this.#photo.multiple = true;
    this.#name.removeAttribute("maxlength");
    this.#form.querySelector("label[for=photo]").textContent = text("choose");
  }

  #listenForPaste() {
    addEventListener("paste", (event) => {
      const files = event.clipboardData?.files ?? [];
      if (files.length === 0) return; // text, for the name
      event.preventDefault();
      this.add(files);
    });
  }

  #listenForDrop() {
    const over = (yes) => this.#drop.classList.toggle("over", yes);
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      over(true);
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) over(false);
    });
    addEventListener("drop", (event) => {
      over(false);
      if (event.dataTransfer.files.length === 0) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    this.#showError(this.#photo, "");
    // Photos that were sent stay for further names, but make room for others.
    if (this.#tried && files.length > 0) this.#picks = [];
    this.#tried = false;
    for (const file of files) {
      const pick = { file, prepared: null };
      this.#picks.push(pick);
      // One at a time: an opened photo takes some 200 MB of a phone's memory.
      pick.ready = this.#turn = this.#turn.then(() => this.#prepare(pick));
    }
    this.#show();
  }

  async #prepare(pick) {
    try {
      pick.prepared = await prepare(pick.file);
    } catch (error) {
      if (!(error instanceof BadPhoto)) throw error;
      pick.problem = error;
      this.#picks = this.#picks.filter((other) => other !== pick);
      const problem = `${pick.file.name}: ${failureText(error)}`;
      this.#showError(this.#photo, problem);
      say(problem);
    }
    this.#show();
  }

  #remove(pick) {
    const index = this.#picks.indexOf(pick);
    this.#picks.splice(index, 1);
    this.#show();
    const buttons = this.#list.querySelectorAll("button");
    (buttons[Math.min(index, buttons.length - 1)] ?? this.#photo).focus();
  }

  #show() {
    this.#drop.classList.toggle("has-photos", this.#picks.length > 0);
    this.#list.classList.toggle("one", this.#picks.length === 1);
    this.#list.replaceChildren(...this.#picks.map((pick) => this.#item(pick)));
    const asIs = this.#picks.some((pick) => pick.prepared?.asIs);
    document.getElementById("as-is").textContent = asIs ? text("heic") : "";
  }

  #item(pick) {
    const preview = pick.prepared?.preview;
    const picture = preview
      ? element("img", { src: preview, alt: pick.file.name })
      : element("span", { className: "blank", textContent: pick.prepared ? `${pick.file.name} (${text("no_preview")})` : "…" });
    const remove = element("button", { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", text("remove", { name: pick.file.name }));
    remove.addEventListener("click", () => this.#remove(pick));
    const item = element("li");
    item.append(picture, remove);
    return item;
  }

  #submit() {
    const names = namesIn(this.#name.value);
    const tries = names.length * this.#picks.length;
    const tooMany = tries > MOST_TRIES ? text("error.too_many_tries", { n: tries, most: MOST_TRIES }) : "";
    const noPhoto = this.#picks.length === 0 ? text("error.no_photo") : "";
    this.#showError(this.#photo, noPhoto);
    this.#showError(this.#name, nameError(names) || tooMany);
    const first = this.#form.querySelector("[aria-invalid=true]");
    if (first) {
      first.focus();
      return;
    }
    this.#tried = true;
    this.submitted([...this.#picks], names);
  }

  #showError(input, message) {
    document.getElementById(`${input.id}-error`).textContent = message;
    input.setAttribute("aria-invalid", String(message !== ""));
  }
}

/** Return the different names in a line, as the server tells them apart. */
function namesIn(line) {
  const names = line.split(/[,;،、，\n]/).map((name) => name.normalize("NFC").trim());
  return [...new Set(names.filter((name) => name !== ""))];
}

function nameError(names) {
  if (names.length === 0) return text("error.no_name");
  const bad = names.some((name) => [...name].length > LONGEST_NAME || /^[\p{C}\p{Z}]*$/u.test(name));
  return bad ? text("error.bad_name") : "";
}
