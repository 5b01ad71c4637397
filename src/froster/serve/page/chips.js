// The labels as chips: single labels, and as one chip each whole vocabularies and what a model was trained on.

import { element, plural } from "./dom.js";

// A label in double quotes may hold the comma that ends any other.
const BETWEEN_COMMAS = /\s*"[^"]*"\s*(?=[,\t]|$)|[^,\t]+/g;
const QUOTED_START = /^\s*"[^"]*("|$)/; // its end may still be to come

/** Labels from typed or pasted text: a JSON list, one a line, or separated by commas; each once, in any case. */
export function parseLabels(text) {
  if (text.trim().startsWith("[")) {
    try {
      const list = JSON.parse(text);
      if (Array.isArray(list)) return tidy(list.map(String));
    } catch {
      // Not JSON after all.
    }
  }
  return tidy(/[\n\r]/.test(text) ? text.split(/[\n\r]+/) : (text.match(BETWEEN_COMMAS) ?? []));
}

function tidy(labels) {
  return distinct(
    labels
      .map((label) => label.replace(/\s+/g, " ").replace(/^ |[ ,]+$/g, "").replace(/^(["'])(.*)\1$/, "$2"))
      .filter(Boolean),
  );
}

/** CLIP reads small letters: labels that differ only in case are one, spelled as it comes first. */
function distinct(labels) {
  const first = new Map();
  for (const label of labels) if (!first.has(label.toLowerCase())) first.set(label.toLowerCase(), label);
  return [...first.values()];
}

/** One line that `parseLabels` reads back. */
export function joinLabels(labels) {
  return labels.some((label) => /[,["]/.test(label)) ? JSON.stringify(labels) : labels.join(",");
}

const labelsOf = (item) => item.labels ?? [item.label];
const nameOf = ({ label, vocabulary, model }) => label ?? vocabulary ?? `Labels of ${model}`;

export class Chips {
  #items = []; // {label}, {vocabulary, labels} or {model, labels}
  #at = null; // where the label that is being edited goes back to
  #list;
  #input;
  #announce;
  #changed;

  constructor({ box, list, input, announce, changed }) {
    this.#list = list;
    this.#input = input;
    this.#announce = announce;
    this.#changed = changed;
    box.addEventListener("click", (event) => {
      if (event.target === box || event.target === list) input.focus();
    });
    input.addEventListener("keydown", (event) => this.#typed(event));
    // Phones' keyboards send no key for a comma, so look at the text.
    input.addEventListener("input", () => {
      if (input.value.replace(QUOTED_START, "").includes(",")) this.#take(input.value);
    });
    input.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text");
      if (!/[\n\r,\t[]/.test(text)) return;
      event.preventDefault();
      this.#take(text);
    });
    input.addEventListener("blur", () => this.commit());
    list.addEventListener("keydown", (event) => this.#walked(event));
  }

  /** Every single label, those of vocabularies and models included, each once. */
  get labels() {
    return distinct(this.#items.flatMap(labelsOf));
  }

  get own() {
    return distinct(this.#items.filter((item) => !item.vocabulary).flatMap(labelsOf));
  }

  /** Whether they are what a model was trained on, and nothing else. */
  get areTrained() {
    return this.#items.length === 1 && Boolean(this.#items[0].model);
  }

  get vocabularies() {
    return this.#items.filter((item) => item.vocabulary).map((item) => item.vocabulary);
  }

  /** What the server is sent: a vocabulary alone by its name; nothing for what its model was trained on. */
  get sent() {
    if (this.areTrained) return "";
    const [item] = this.#items;
    return this.#items.length === 1 && item.vocabulary ? item.vocabulary : JSON.stringify(this.labels);
  }

  set(items) {
    this.#items = items;
    this.#at = null;
    this.#draw();
  }

  /** Take what is typed and not yet a chip. */
  commit() {
    if (this.#input.value.trim()) this.#take(this.#input.value);
    this.#at = null;
  }

  add(labels) {
    const fresh = this.#fresh(labels);
    this.#items.splice(this.#at ?? this.#items.length, 0, ...fresh.map((label) => ({ label })));
    this.#at = null;
    if (fresh.length === 0) this.#announce(labels.length === 1 ? `${labels[0]} is there already.` : "Nothing new.");
    else this.#announce(fresh.length === 1 ? `${fresh[0]} added.` : `${plural(fresh.length, "label")} added.`);
    this.#draw();
  }

  addVocabulary(vocabulary) {
    if (this.vocabularies.includes(vocabulary.name)) return;
    this.#items.push({ vocabulary: vocabulary.name, labels: vocabulary.labels });
    this.#announce(`${vocabulary.name}, ${plural(vocabulary.labels.length, "label")}, added.`);
    this.#draw();
  }

  #fresh(labels) {
    return distinct([...this.own, ...labels]).slice(this.own.length);
  }

  #take(text) {
    const labels = parseLabels(text);
    this.#input.value = "";
    if (labels.length) this.add(labels);
  }

  #remove(index) {
    const [item] = this.#items.splice(index, 1);
    this.#at = null;
    this.#announce(`${nameOf(item)} removed.`);
    this.#draw();
  }

  #edit(index) {
    this.commit();
    const [item] = this.#items.splice(index, 1);
    if (item.labels) {
      this.#items.splice(index, 0, ...this.#fresh(item.labels).map((label) => ({ label })));
      this.#announce(`${nameOf(item)} opened into its labels.`);
    } else {
      this.#input.value = item.label.includes(",") ? `"${item.label}"` : item.label;
      this.#at = index;
    }
    this.#draw();
    this.#input.focus();
  }

  #typed(event) {
    if (event.isComposing) return;
    const atStart = this.#input.selectionStart === 0 && this.#input.selectionEnd === 0;
    if (event.key === "Enter" && this.#input.value.trim() && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.commit();
    } else if (event.key === "Backspace" && this.#input.value === "" && this.#items.length) {
      event.preventDefault();
      this.#remove(this.#items.length - 1);
    } else if (event.key === "ArrowLeft" && atStart && this.#items.length) {
      event.preventDefault();
      this.#focus(this.#items.length - 1);
    }
  }

  #walked(event) {
    const index = [...this.#list.children].indexOf(event.target.closest("li"));
    if (event.key === "ArrowLeft") this.#focus(Math.max(index - 1, 0));
    else if (event.key === "ArrowRight") this.#focus(index + 1);
    else if (event.key === "Home") this.#focus(0);
    else if (event.key === "End") this.#focus(this.#items.length);
    else if (event.key === "Backspace" || event.key === "Delete") {
      this.#remove(index);
      this.#focus(event.key === "Delete" ? index : Math.max(index - 1, 0));
    } else return;
    event.preventDefault();
  }

  #focus(index) {
    (this.#list.children[index]?.querySelector(".chip-name") ?? this.#input).focus();
  }

  #draw() {
    // One stop of the Tab key for all chips: 45 would bar the way to the button below.
    this.#list.replaceChildren(
      ...this.#items.map((item, index) => {
        const name = nameOf(item);
        const edit = item.labels ? `Open ${name} into its labels` : `Edit ${name}`;
        const words = item.labels
          ? [name, " ", element("span", { className: "count" }, plural(item.labels.length, "label"))]
          : [name];
        return element(
          "li",
          { className: item.labels ? "chip chip-vocabulary" : "chip" },
          element(
            "button",
            {
              type: "button",
              className: "chip-name",
              tabIndex: -1,
              title: edit,
              ariaLabel: edit,
              onclick: () => this.#edit(index),
            },
            ...words,
          ),
          element(
            "button",
            {
              type: "button",
              className: "chip-remove",
              tabIndex: -1,
              ariaLabel: `Remove ${name}`,
              onclick: () => {
                this.#remove(index);
                this.#input.focus({ preventScroll: true });
              },
            },
            "×",
          ),
        );
      }),
    );
    this.#list.hidden = this.#items.length === 0;
    this.#changed();
  }
}
