/** The chains of running answers, drawn over the rows of their workers; a light runs along one when its tokens come. */

import { draw, moves } from "./element.js";

const MAX_SHOWN = 12; // answers drawn at once
const COLOURS = 6;
const SHIFTS = [0, 5, -5, 10, -10]; // pixels from the middle of a bar, for answers that share it
const LIGHT = 28; // pixels that the light is long
const RUN_MILLISECONDS = 700;

export class Flow {
  #box;
  #svg = draw("svg", { class: "flow", "aria-hidden": "true" });
  #drawn = new Map(); // session -> { lane, line, light, running }
  #last = null;

  constructor(box) {
    this.#box = box;
    box.append(this.#svg);
    new ResizeObserver(() => this.#last && this.show(...this.#last)).observe(box);
  }

  /** `rows` are Row by peer. */
  show(sessions, count, rows) {
    this.#last = [sessions, count, rows];
    const shown = sessions.filter((session) => session.chain.length).slice(0, MAX_SHOWN);
    const wanted = new Set(shown.map((session) => session.id));
    for (const [id, { line, light }] of this.#drawn) {
      if (wanted.has(id)) continue;
      line.remove();
      light.remove();
      this.#drawn.delete(id);
    }
    if (!shown.length) return;
    const list = this.#box.firstElementChild;
    this.#svg.setAttribute("width", list.offsetWidth);
    this.#svg.setAttribute("height", list.offsetHeight);
    const origin = list.getBoundingClientRect();
    for (const session of shown) {
      const drawn = this.#drawn.get(session.id) ?? this.#begin(session.id);
      const path = along(session.chain, count, rows, origin, SHIFTS[drawn.lane % SHIFTS.length]);
      drawn.line.setAttribute("d", path);
      drawn.light.setAttribute("d", path);
      drawn.line.classList.toggle("waits", session.state === "recovering" || session.state === "opening");
    }
  }

  pulse(session) {
    const drawn = this.#drawn.get(session);
    if (!drawn || drawn.running || !moves()) return;
    const length = drawn.light.getTotalLength();
    if (!length) return;
    drawn.running = true;
    drawn.light.setAttribute("stroke-dasharray", `${LIGHT} ${length + LIGHT}`);
    const run = { strokeDashoffset: [LIGHT, -length], opacity: [1, 1] };
    drawn.light.animate(run, { duration: RUN_MILLISECONDS, easing: "cubic-bezier(.4,.1,.6,.9)" }).onfinish = () => {
      drawn.running = false;
    };
  }

  /** The colour of an answer, for its name elsewhere. */
  colour(id) {
    return this.#drawn.get(id)?.line.classList[1] ?? null;
  }

  #begin(id) {
    const taken = new Set([...this.#drawn.values()].map((each) => each.lane));
    let lane = 0;
    while (taken.has(lane)) lane += 1;
    const colour = `lane-${lane % COLOURS}`;
    const line = draw("path", { class: `chain ${colour}` });
    const light = draw("path", { class: `light ${colour}` });
    const drawn = { lane, line, light, running: false };
    this.#svg.append(line, light);
    this.#drawn.set(id, drawn);
    return drawn;
  }
}

/** A path through the middle of each hop's bar, from left to right. */
function along(chain, count, rows, origin, shift) {
  const steps = [];
  let last = 0;
  for (const { peer, start, stop } of [...chain].sort((one, other) => one.start - other.start)) {
    const axis = rows.get(peer)?.axis.getBoundingClientRect();
    if (!axis?.width) continue;
    const x = (layer, aside = 0) => (axis.left - origin.left + (axis.width * layer) / count + aside).toFixed(1);
    const y = (axis.top - origin.top + axis.height / 2 + shift).toFixed(1);
    steps.push(steps.length ? `H${x(start, shift)} V${y}` : `M${x(start)} ${y}`);
    last = x(stop);
  }
  return steps.length ? `${steps.join(" ")} H${last}` : "";
}
