// Small helpers. Text from the server only ever becomes text nodes and checked attributes, never markup.

export const find = (id) => document.getElementById(id);

/** An element with properties and children; strings among the children become text. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function percent(score) {
  const share = 100 * score;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  return `${share.toFixed(1)} %`;
}

/** Seconds as `0.4 s` below a minute, else `m:ss`. */
export function clock(seconds) {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : minutes(seconds);
}

export function clockRange(start, end) {
  return end < 60 ? `${start.toFixed(1)} – ${end.toFixed(1)} s` : `${minutes(start)} – ${minutes(end)}`;
}

function minutes(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
