/** The layers of a model as a strip: how many hold each, and below it one row per worker. Knows nothing of HTTP. */

import { Flow } from "./flow.js";
import { find, make, say } from "./element.js";
import { Row } from "./row.js";
import { counted, named, runs } from "./units.js";

const MAX_ROWS = 200; // workers shown; those of running answers are among them
const NUMBERED = 40; // layers up to which each cell has room for its number
const FELL_MILLISECONDS = 8_000; // that a worker which was left is shown as such, whatever its record says

export class Strip {
  #rows = new Map();
  #fell = new Map(); // peer -> when
  #flow = new Flow(find("rows-box"));
  #shape = "";
  #view = null;

  /** `view`: { model, workers, sessions } of one model, or with a null model. */
  show(view) {
    this.#view = view;
    const { model, workers } = view;
    const empty = emptiness(view);
    find("figure").hidden = model === null;
    find("strip-empty").hidden = !empty;
    find("strip-empty").classList.toggle("bad", view.model !== null && !view.model.available);
    say(find("strip-empty"), empty);
    if (model === null) {
      say(find("coverage-words"), "");
      return;
    }
    this.#axis(model.layers);
    this.#cover(model, workers);
    this.#workers(view);
    this.#flow.show(view.sessions, model.layers, this.#rows);
  }

  pulse(session) {
    this.#flow.pulse(session);
  }

  /** The class that an answer is drawn with, or null. */
  colour(session) {
    return this.#flow.colour(session);
  }

  /** A worker was left by an answer that it was computing for. */
  fell(peer) {
    this.#fell.set(peer, performance.now());
    this.#rows.get(peer)?.flash();
    if (this.#view) this.show(this.#view);
    setTimeout(() => this.#view && this.show(this.#view), FELL_MILLISECONDS + 100);
  }

  #trouble(worker) {
    if (worker.banned) return "banned";
    const at = this.#fell.get(worker.peer);
    if (at !== undefined && performance.now() - at > FELL_MILLISECONDS) this.#fell.delete(worker.peer);
    return worker.suspected || this.#fell.has(worker.peer) ? "no answer" : "";
  }

  #axis(count) {
    if (this.#shape === String(count)) return;
    this.#shape = String(count);
    const step = [1, 2, 4, 8, 16, 32, 64].find((each) => count / each <= 8) ?? 128;
    const ticks = [];
    for (let layer = 0; layer < count; layer += step) {
      const tick = make("span", { text: String(layer) });
      tick.style.left = `${(100 * layer) / count}%`;
      ticks.push(tick);
    }
    find("ticks").replaceChildren(...ticks);
    find("cells").replaceChildren(...Array.from({ length: count }, () => make("i")));
    find("cells").classList.toggle("numbered", count <= NUMBERED);
    find("figure").style.setProperty("--layers", count);
  }

  #cover(model, workers) {
    const here = !workers.length && model.available; // no swarm: every layer is computed on this node
    const held = model.replicas.map((copies, layer) => {
      const gone = workers.filter(
        (each) =>
          each.state === "serving" && each.precision === model.precision && each.start <= layer && layer < each.stop && this.#trouble(each),
      );
      return here ? 1 : Math.max(0, copies - gone.length);
    });
    find("cells").childNodes.forEach((cell, layer) => {
      cell.dataset.copies = here ? "here" : String(Math.min(3, held[layer]));
      say(cell, here ? "" : String(held[layer]));
    });
    const words = coverageWords(model, held, here);
    find("coverage-words").dataset.state = held.some((copies) => copies === 0) ? "bad" : "good";
    say(find("coverage-words"), words);
    find("cells").setAttribute("aria-label", words);
  }

  #workers({ model, workers, sessions }) {
    const busy = new Set(sessions.flatMap((session) => session.chain.map((hop) => hop.peer)));
    const shown = workers.length > MAX_ROWS ? chosen(workers, busy) : workers;
    const wanted = new Set(shown.map((worker) => worker.peer));
    for (const [peer, row] of this.#rows) {
      if (wanted.has(peer)) continue;
      row.element.remove();
      this.#rows.delete(peer);
    }
    shown.forEach((worker, place) => {
      const row = this.#rows.get(worker.peer) ?? new Row(worker.peer);
      this.#rows.set(worker.peer, row);
      row.show(worker, model.layers, this.#trouble(worker));
      row.element.classList.toggle("busy", busy.has(worker.peer));
      const list = find("rows");
      if (list.children[place] !== row.element) list.insertBefore(row.element, list.children[place] ?? null);
    });
    const box = find("rows-box");
    if (box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0; // to be scrolled with the keyboard
    else box.removeAttribute("tabindex");
  }
}

function chosen(workers, busy) {
  const others = MAX_ROWS - busy.size;
  let left = others;
  return workers.filter((worker) => busy.has(worker.peer) || left-- > 0);
}

function coverageWords(model, held, here) {
  if (here) return `All ${model.layers} layers are computed on this node`;
  const holes = runs(model.layers, (layer) => model.replicas[layer] === 0);
  if (holes.length) return `Nobody holds ${named(holes)}`;
  const silent = runs(model.layers, (layer) => held[layer] === 0);
  if (silent.length) return `Nobody answers for ${named(silent)}`;
  const least = Math.min(...held);
  const all = `All ${model.layers} layers held`;
  return least > 1 ? `${all}, each at least ${least === 2 ? "twice" : `${least} times`}` : `${all}, some only once`;
}

function emptiness({ model, workers }) {
  if (model === null) return "This gateway has the files of no model. Start it with --model NAME, or with --models-dir.";
  if (workers.length > MAX_ROWS) return `${counted(workers.length - MAX_ROWS, "worker")} more than are shown.`;
  if (workers.length) return "";
  if (model.available) return "No swarm here: this node computes every layer by itself.";
  return `No worker holds any layer of ${model.id} yet. Start one: swarm worker --model ${model.id} --bootstrap HOST:PORT`;
}
