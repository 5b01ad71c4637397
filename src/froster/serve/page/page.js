// The page: what is asked, what is answered, and the address that says both.

import { advice, isAbort, onTokenNeeded, request } from "./api.js";
import { Chips, joinLabels, parseLabels } from "./chips.js";
import { clock, element, find, percent, plural } from "./dom.js";
import { drawTimeline } from "./timeline.js";

const KINDS = {
  attention: "How much the class token attends to each patch, in the last layer.",
  rollout: "Attention followed through all layers.",
  gradient: "What speaks for the best label against the others.",
};
const SHOWN = 5;
const MOST = 20;
const LONG = 3.5; // seconds of the last frame; below it a timeline says no more than the answer

const video = find("video");
const page = { video: null, model: "", kind: "attention", run: null, answer: null, failed: "" };
let known = { samples: [], vocabularies: [], models: [] };
let suggested = "";
let ready = false;
let retry = recognize;

const say = (words) => {
  find("live").textContent = words;
};
const hint = (words) => {
  find("hint").textContent = words;
};
const chips = new Chips({
  box: find("chips"),
  list: find("chip-list"),
  input: find("label"),
  announce: say,
  changed: labelsChanged,
});

// ---------------------------------------------------------------- video

function chooseFile(file) {
  setVideo({ file, name: file.name, source: URL.createObjectURL(file) });
}

function chooseSample(sample) {
  setVideo({ sample: sample.name, name: sample.title, source: sample.video, poster: sample.picture });
  // Labels that a person wrote are theirs; only an untouched suggestion gives way to the next.
  if (chips.areTrained || (joinLabels(chips.own) === suggested && chips.vocabularies.length === 0)) {
    suggested = joinLabels(sample.labels);
    chips.set(sample.labels.map((label) => ({ label })));
  }
}

function setVideo(chosen) {
  if (page.video?.file) URL.revokeObjectURL(page.video.source);
  page.video = chosen;
  hint("");
  find("unplayable").hidden = true;
  video.hidden = false;
  video.poster = chosen?.poster ?? "";
  if (chosen) video.src = chosen.source;
  else video.removeAttribute("src");
  if (chosen && !matchMedia("(prefers-reduced-motion: reduce)").matches) video.play().catch(() => {});
  find("player").hidden = find("chosen").hidden = !chosen;
  find("drop").hidden = Boolean(chosen);
  find("chosen-name").textContent = chosen?.name ?? "";
  video.ariaLabel = chosen ? `Preview of ${chosen.name}` : "";
  if (!chosen?.file) find("file").value = "";
  for (const radio of find("samples").querySelectorAll("input")) radio.checked = radio.value === chosen?.sample;
  changed();
}

video.addEventListener("error", () => {
  if (!page.video) return;
  video.hidden = true;
  find("unplayable").hidden = false;
  find("unplayable").textContent = "This browser cannot play the file. froster may still be able to read it.";
});

find("file").addEventListener("change", (event) => {
  if (event.target.files[0]) chooseFile(event.target.files[0]);
});
find("remove-video").addEventListener("click", () => {
  setVideo(null);
  find("file").focus();
});

let drags = 0;
const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFile(event)) document.body.classList.toggle("dragging", ++drags > 0);
});
addEventListener("dragleave", (event) => {
  if (carriesFile(event)) document.body.classList.toggle("dragging", --drags > 0);
});
addEventListener("dragover", (event) => {
  if (carriesFile(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  drags = 0;
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files[0]) chooseFile(event.dataTransfer.files[0]);
});

function seek(seconds) {
  if (!page.video || page.video !== page.answer?.asked.video) return;
  video.pause();
  video.currentTime = seconds;
}

// ---------------------------------------------------------------- labels and models

function labelsChanged() {
  const count = chips.labels.length;
  find("count").textContent = count ? String(count) : "";
  find("clear").hidden = count === 0;
  hint("");
  changed();
}

find("clear").addEventListener("click", () => {
  suggested = "";
  chips.set([]);
  say("All labels removed.");
  find("label").focus();
});
find("vocabulary").addEventListener("change", (event) => {
  const vocabulary = known.vocabularies.find(({ name }) => name === event.target.value);
  event.target.value = "";
  // A vocabulary replaces an untouched suggestion.
  if (chips.areTrained || (suggested && joinLabels(chips.own) === suggested)) chips.set([]);
  if (vocabulary) chips.addVocabulary(vocabulary);
});
find("model").addEventListener("change", (event) => {
  page.model = event.target.value;
  suggestTrained();
  changed();
});

/** What the model was trained on, until a person says which labels they want. */
function suggestTrained() {
  if (chips.labels.length > 0 && !chips.areTrained) return;
  const model = known.models.find(({ name }) => name === page.model);
  chips.set(model?.labels.length ? [{ model: model.name, labels: model.labels }] : []);
}

// ---------------------------------------------------------------- the address

function changed() {
  if (!ready) return;
  const query = new URLSearchParams();
  if (page.video?.sample) query.set("sample", page.video.sample);
  if (chips.own.length && !chips.areTrained) query.set("labels", joinLabels(chips.own));
  for (const name of chips.vocabularies) query.append("vocabulary", name);
  const first = known.models.find((model) => model.default) ?? known.models[0];
  if (page.model && page.model !== first?.name) query.set("model", page.model);
  if (page.kind !== "attention") query.set("explain", page.kind);
  const words = query.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", words ? `?${words}` : location.pathname);
  note();
  if (page.answer) find("stale").hidden = page.answer.asked.key === asked().key;
  if (!find("error").hidden && page.failed !== asked().key) showEmpty("Nothing recognized yet."); // the error was of another question
}

/** What must be said about the chosen video: what a link leaves out, and what the small model cannot know. */
function note() {
  const words = [];
  if (page.video?.file) words.push("A link carries the labels and the model, not this file.");
  if (page.video?.file && page.model === "puppets") {
    words.push("The small model puppets knows puppets only: for other videos start froster serve --model vit-b-16.");
  }
  find("stage-note").textContent = words.join(" ");
  find("stage-note").hidden = words.length === 0;
}

/** What the address says by itself; it is there before the server's lists, and before a person's first word. */
function restoreLabels() {
  const query = new URLSearchParams(location.search);
  chips.set(parseLabels(query.get("labels") ?? "").map((label) => ({ label })));
  if (query.get("explain") in KINDS) page.kind = query.get("explain");
  showKind();
}

/** What the address names of the server; a video that is chosen by now stays. */
function restoreNames() {
  const query = new URLSearchParams(location.search);
  const lost = [];
  for (const name of query.getAll("vocabulary")) {
    const vocabulary = known.vocabularies.find((one) => one.name === name);
    if (vocabulary) chips.addVocabulary(vocabulary);
    else lost.push(`vocabulary ${name}`);
  }
  const first = known.models.find((model) => model.default) ?? known.models[0];
  page.model = query.get("model") ?? first?.name ?? "";
  if (!known.models.some(({ name }) => name === page.model)) {
    lost.push(`model ${page.model}`);
    page.model = first?.name ?? "";
  }
  find("model").value = page.model;
  const asIs = chips.labels.length > 0 && !page.video;
  suggestTrained();
  const name = query.get("sample");
  const sample = known.samples.find((one) => one.name === name);
  if (sample && !page.video) chooseSample(sample);
  else if (name && !sample) lost.push(`sample ${name}`);
  ready = true;
  changed();
  if (lost.length) hint(`This server has no ${lost.join(", no ")}: the rest of the link is restored.`);
  else if (sample && asIs) recognize();
}

find("share").addEventListener("click", async () => {
  chips.commit();
  const missing = page.video?.file ? " It does not include your video; choose one after opening it." : "";
  try {
    await navigator.clipboard.writeText(location.href);
    hint(`Link copied.${missing}`);
  } catch {
    hint(`The link is in the address bar.${missing}`);
  }
});

// ---------------------------------------------------------------- asking

const asked = () => ({
  video: page.video,
  labels: chips.sent,
  count: chips.labels.length,
  model: page.model,
  key: JSON.stringify([page.video?.source, chips.sent, page.model]),
});

function ask({ video: from, labels, count, model }, wanted, signal, onUpload) {
  const body = new FormData();
  if (from.file) body.append("file", from.file, from.file.name);
  else body.append("sample", from.sample);
  body.append("labels", labels);
  if (model) body.append("model", model);
  body.append("top", String(Math.min(count, MOST)));
  for (const [name, value] of Object.entries(wanted)) body.append(name, value);
  return request("v1/recognize", { body, signal, onUpload: from.file ? onUpload : null });
}

function show(state) {
  for (const name of ["empty", "loading", "error", "result"]) find(name).hidden = name !== state;
  find("recognize").setAttribute("aria-disabled", String(state === "loading"));
  find("answer").setAttribute("aria-busy", String(state === "loading"));
  if (state !== "result") find("seen").hidden = find("timeline").hidden = true;
}

function showEmpty(words) {
  find("empty").querySelector(".empty-words").textContent = words;
  show("empty");
}

function doing(words, progress) {
  find("doing").textContent = words;
  if (progress === null) find("progress").removeAttribute("value");
  else find("progress").value = progress;
}

async function recognize() {
  chips.commit();
  if (!page.video) {
    hint("Choose a video or a sample first.");
    find("file").focus();
    return;
  }
  if (chips.labels.length === 0) {
    hint("Add at least one label first.");
    find("label").focus();
    return;
  }
  hint("");
  cancel();
  const run = new AbortController();
  page.run = run;
  page.answer = null;
  const question = asked();
  const words = `Recognizing among ${plural(question.count, "label")}`;
  show("loading");
  doing(words, null);
  say(words);
  bring(find("answer"));
  const began = performance.now();
  const tick = () => {
    find("elapsed").textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  };
  tick();
  const timer = setInterval(tick, 100);
  try {
    const answer = await ask(question, { frames: "1", explain: page.kind }, run.signal, (share) =>
      share === null || share < 1 ? doing(`Sending ${question.video.name}`, share) : doing(words, null),
    );
    page.answer = { ...answer, asked: question, maps: new Map([[page.kind, answer.attention ?? []]]) };
    showAnswer();
    if (answer.frames?.at(-1)?.time > LONG) await overTime(run.signal);
  } catch (error) {
    if (page.run !== run) return; // a newer question has the page
    if (isAbort(error)) {
      showEmpty("Cancelled.");
      say("Cancelled.");
    } else {
      page.failed = question.key;
      showError(error);
    }
  } finally {
    clearInterval(timer);
    if (page.run === run) page.run = null;
  }
}

function cancel() {
  page.run?.abort();
  page.lookRun?.abort();
}

/** Scroll `place` into view if the columns are stacked and it is not visible. */
function bring(place) {
  const { top, bottom } = place.getBoundingClientRect();
  if (top >= 0 && Math.min(bottom, top + 160) <= innerHeight) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  place.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function showError(error) {
  const hadFocus = find("cancel") === document.activeElement;
  find("error-message").textContent = error.message;
  find("error-advice").textContent = advice(error);
  show("error");
  if (hadFocus) find("again").focus();
}

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (find("recognize").getAttribute("aria-disabled") !== "true") recognize();
});
find("again").addEventListener("click", () => retry());
find("cancel").addEventListener("click", () => {
  cancel();
  find("recognize").focus({ preventScroll: true });
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("token-dialog").open) cancel();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
});

// ---------------------------------------------------------------- answers

function showAnswer() {
  const { answer } = page;
  const hadFocus = find("cancel") === document.activeElement;
  const [best] = answer.ranked;
  // A model that gives every label a probability of its own names any number of labels.
  const named = answer.labels ? answer.labels.join(", ") || "none of these" : answer.label;
  const rank = answer.labels && best.label !== named ? `${best.label} ${percent(best.score)}, best of` : `${percent(best.score)} among`;
  find("best").textContent = named;
  find("summary").textContent =
    `${rank} ${plural(answer.asked.count, "label")} · similarity ${best.similarity.toFixed(3)}` +
    ` · ${answer.model}, ${clock(answer.seconds)}`;
  find("warning").textContent = answer.warning ?? "";
  find("warning").hidden = !answer.warning;
  showRanked(SHOWN);
  strip(find("frames"), answer.frames ?? [], "Frame");
  strip(find("looked"), answer.attention ?? [], "Heat map");
  find("looked-state").hidden = true;
  find("seen").hidden = false;
  find("timeline").hidden = true;
  show("result");
  changed();
  say(`${named}, ${percent(best.score)}.`);
  if (hadFocus) find("answer").focus({ preventScroll: true });
}

function showRanked(count) {
  const { ranked } = page.answer;
  find("ranked").replaceChildren(
    ...ranked.slice(0, count).map(({ label, score, similarity }) => {
      const bar = element("span", { className: "bar", ariaHidden: "true" });
      bar.style.setProperty("--share", score);
      return element(
        "li",
        { title: `similarity ${similarity.toFixed(3)}` },
        element("span", { className: "ranked-label" }, label),
        element("span", { className: "ranked-score" }, percent(score)),
        bar,
      );
    }),
  );
  find("more").hidden = ranked.length <= count;
  find("more").textContent = `Show ${ranked.length - count} more`;
}

find("more").addEventListener("click", () => {
  showRanked(MOST);
  find("answer").focus({ preventScroll: true });
});

function strip(place, pictures, what) {
  place.replaceChildren(
    ...pictures
      .filter(({ image }) => image.startsWith("data:image/"))
      .map(({ time, image }) =>
        element(
          "button",
          { type: "button", className: "frame", onclick: () => seek(time) },
          element("img", { src: image, alt: `${what} at ${clock(time)}` }),
          element("span", { ariaHidden: "true" }, clock(time)),
        ),
      ),
  );
}

function pending(place, words, stop) {
  place.hidden = !words;
  place.replaceChildren();
  if (!words) return;
  place.append(element("span", { className: "pending-words" }, words));
  if (stop) place.append(element("button", { type: "button", className: "quiet", onclick: stop }, "Cancel"));
}

function showKind() {
  for (const radio of document.getElementsByName("explain")) radio.checked = radio.value === page.kind;
  find("looked-help").textContent = KINDS[page.kind];
}

async function look(kind) {
  page.kind = kind;
  showKind();
  changed();
  page.lookRun?.abort();
  const { answer } = page;
  const place = find("looked-state");
  pending(place, "");
  find("looked").removeAttribute("aria-busy");
  if (answer.maps.has(kind)) {
    strip(find("looked"), answer.maps.get(kind), "Heat map");
    return;
  }
  const run = new AbortController();
  page.lookRun = run;
  pending(place, "Drawing the maps …", () => run.abort());
  find("looked").setAttribute("aria-busy", "true");
  try {
    const { attention } = await ask(answer.asked, { explain: kind }, run.signal, null);
    answer.maps.set(kind, attention);
    if (page.lookRun !== run || page.answer !== answer) return;
    strip(find("looked"), attention, "Heat map");
    pending(place, "");
  } catch (error) {
    if (page.lookRun !== run || page.answer !== answer) return;
    find("looked").replaceChildren();
    pending(place, isAbort(error) ? "Cancelled." : `${error.message} ${advice(error)}`);
  } finally {
    if (page.lookRun === run) {
      page.lookRun = null;
      find("looked").removeAttribute("aria-busy");
    }
  }
}

for (const radio of document.getElementsByName("explain")) {
  radio.addEventListener("change", () => look(radio.value));
}

async function overTime(signal) {
  const { answer } = page;
  const place = find("timeline-state");
  find("timeline-content").replaceChildren();
  find("timeline").hidden = false;
  pending(place, "Going through the whole video …", () => page.run?.abort());
  try {
    const { timeline } = await ask(answer.asked, { timeline: "1" }, signal, null);
    if (page.answer !== answer) return;
    drawTimeline(find("timeline-content"), timeline, { video, seek });
    pending(place, "");
  } catch (error) {
    if (page.answer !== answer) return;
    pending(place, isAbort(error) ? "Cancelled." : `${error.message} ${advice(error)}`);
  }
}

// ---------------------------------------------------------------- token and start

onTokenNeeded(
  (rejected) =>
    new Promise((resolve) => {
      const dialog = find("token-dialog");
      if (rejected) find("token-note").textContent = "The server rejected that token. Type it again.";
      find("token").value = "";
      dialog.returnValue = "";
      find("token-form").onsubmit = () => {
        dialog.returnValue = find("token").value;
      };
      find("token-cancel").onclick = () => dialog.close("");
      dialog.onclose = () => resolve(dialog.returnValue.trim() || null);
      dialog.showModal();
    }),
);

/** A sample whose addresses are whole; the server's are relative to its list. */
function located(sample) {
  const list = new URL("v1/samples", document.baseURI);
  return { ...sample, video: new URL(sample.video, list).href, picture: new URL(sample.picture, list).href };
}

async function start() {
  restoreLabels();
  try {
    const [{ models }, { samples }, { vocabularies }] = await Promise.all(
      ["v1/models", "v1/samples", "v1/vocabularies"].map((path) => request(path)),
    );
    known = { models, samples: samples.map(located), vocabularies };
  } catch (error) {
    showError(error);
    retry = () => location.reload();
    return;
  }
  find("model").replaceChildren(...known.models.map(({ name }) => element("option", { value: name }, name)));
  find("model-option").hidden = known.models.length < 2;
  find("vocabulary").append(
    ...known.vocabularies.map(({ name, title, labels }) =>
      element("option", { value: name, title }, `${name} (${labels.length})`),
    ),
  );
  find("vocabulary").hidden = known.vocabularies.length === 0;
  find("samples").append(
    ...known.samples.map((sample) =>
      element(
        "label",
        { className: "sample" },
        element("input", {
          className: "unseen",
          type: "radio",
          name: "sample",
          value: sample.name,
          onchange: () => chooseSample(sample),
        }),
        element("img", { src: sample.picture, alt: "", loading: "lazy" }),
        element("span", {}, sample.title),
      ),
    ),
  );
  find("samples-group").hidden = known.samples.length === 0;
  restoreNames();
}

start();
