// Scores over time: a small plot with a playhead, a band of segments, and the segments as a list.

import { clock, clockRange, element, percent } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 120;
const COLOURS = 5; // classes .line-0 … of page.css

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The labels worth a line, as they appear: those of the longest segments, then whatever is on top most often. */
function labelsToPlot({ windows, segments }) {
  const weight = new Map();
  for (const { label, start, end } of segments) weight.set(label, (weight.get(label) ?? 0) + 1000 * (end - start));
  for (const { ranked } of windows) if (ranked[0]) weight.set(ranked[0].label, (weight.get(ranked[0].label) ?? 0) + 1);
  const scored = new Set(windows.flatMap((scores) => scores.ranked.map(({ label }) => label)));
  const found = [...weight.keys()].filter((label) => scored.has(label));
  const heaviest = found.toSorted((one, other) => weight.get(other) - weight.get(one)).slice(0, COLOURS);
  return found.filter((label) => heaviest.includes(label));
}

/** Consecutive windows between the gaps, which could not be decoded. */
function runs(windows) {
  const found = [[]];
  for (const scores of windows) {
    if (scores.ranked.length) found.at(-1).push(scores);
    else if (found.at(-1).length) found.push([]);
  }
  return found;
}

/** `seek(seconds)` moves the player; `video` moves the playhead. */
export function drawTimeline(place, timeline, { video, seek }) {
  const { windows, segments } = timeline;
  if (!windows.length) {
    place.replaceChildren(element("p", { className: "soft" }, "The video is too short for a timeline."));
    return;
  }
  const end = Math.max(...windows.map(({ end }) => end));
  const labels = labelsToPlot(timeline);
  const color = (label) => (labels.includes(label) ? labels.indexOf(label) : "none");

  const plot = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const share of [0, 0.5, 1]) {
    const y = HEIGHT * (1 - share);
    plot.append(drawn("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  for (const [index, label] of [...labels.entries()].reverse()) {
    for (const run of runs(windows)) {
      const points = run.map(({ start, end: stop, ranked }) => {
        const score = ranked.find((entry) => entry.label === label)?.score ?? 0;
        return `${((WIDTH * (start + stop)) / 2 / end).toFixed(1)},${(HEIGHT * (1 - score)).toFixed(1)}`;
      });
      plot.append(drawn("polyline", { class: `line line-${index}`, points: points.join(" ") }));
    }
  }
  const head = element("div", { className: "playhead" });
  const band = element("div", { className: "band", ariaHidden: "true" });
  for (const segment of segments) {
    const part = element("span", { className: `fill-${color(segment.label)}`, title: segment.label });
    part.style.left = `${(100 * segment.start) / end}%`;
    part.style.width = `${(100 * (segment.end - segment.start)) / end}%`;
    band.append(part);
  }
  const area = element("div", { className: "plot" }, plot, band, head);
  area.addEventListener("click", (event) => {
    const { left, width } = area.getBoundingClientRect();
    seek((end * (event.clientX - left)) / width);
  });
  const follow = () => {
    head.style.left = `${Math.min(100, (100 * video.currentTime) / end)}%`;
  };
  video.ontimeupdate = follow;
  follow();

  const legend = element(
    "ul",
    { className: "legend", ariaLabel: "Lines of the plot" },
    ...labels.map((label, index) => element("li", { className: `key key-${index}` }, label)),
  );
  const list = element(
    "ol",
    { className: "segments" },
    ...segments.map((segment) =>
      element(
        "li",
        {},
        element(
          "button",
          { type: "button", className: `segment key key-${color(segment.label)}`, onclick: () => seek(segment.start) },
          element("span", { className: "segment-time" }, clockRange(segment.start, segment.end)),
          element("span", { className: "segment-label" }, segment.label),
          element("span", { className: "segment-score" }, percent(segment.score)),
        ),
      ),
    ),
  );
  const ticks = element(
    "div",
    { className: "ticks", ariaHidden: "true" },
    ...[0, 0.5, 1].map((share) => element("span", {}, clock(share * end))),
  );
  const named = segments.reduce((sum, segment) => sum + segment.end - segment.start, 0);
  const rest = segments.length ? "Elsewhere no label exceeds the threshold." : "No label exceeds the threshold.";
  place.replaceChildren(legend, area, ticks, list, ...(named < 0.99 * end ? [element("p", { className: "note" }, rest)] : []));
}
