/** Numbers as people read them. Pure. Between a number and its unit no line breaks. */

const BYTES = ["B", "kB", "MB", "GB", "TB", "PB"];

export function bytes(count) {
  let power = 0;
  while (count >= 1000 && power < BYTES.length - 1) {
    count /= 1000;
    power += 1;
  }
  return `${count < 10 && power ? count.toFixed(1) : Math.round(count)}\u00a0${BYTES[power]}`;
}

/** A time of waiting; "–" if it is not known. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0095) return `${(value * 1000).toFixed(1)}\u00a0ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)}\u00a0ms`;
  return value < 100 ? `${value.toFixed(1)}\u00a0s` : `${Math.round(value)}\u00a0s`;
}

/** Layers from `start` to before `stop`, both ends named. */
export function layers(start, stop) {
  return stop - start === 1 ? `${start}` : `${start}–${stop - 1}`;
}

/** "layer 7", "layers 4–7 and 12". */
export function named(spans) {
  const shown = spans.map(([start, stop]) => layers(start, stop));
  const one = spans.length === 1 && spans[0][1] - spans[0][0] === 1;
  return `${one ? "layer" : "layers"} ${listed(shown)}`;
}

export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function short(peer) {
  return peer.slice(0, 8);
}

/** Runs of layers for which `holds(layer)`: [[start, stop]]. */
export function runs(count, holds) {
  const found = [];
  for (let layer = 0; layer < count; layer += 1) {
    if (!holds(layer)) continue;
    if (found.length && found.at(-1)[1] === layer) found.at(-1)[1] = layer + 1;
    else found.push([layer, layer + 1]);
  }
  return found;
}
