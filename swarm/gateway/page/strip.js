/** The layers of a model as a strip: how many hold each, and below it one row per worker. Knows nothing of HTTP. */

import { Flow } from "./flow.js";
import { find, make, say } from "./element.js";
import { Row } from "./row.js";
import { counted, named, runs } from "./units.js";

const MAX_ROWS = 200; // workers shown; those of running answers are among them
const NUMBERED = 40; // layers up to which each cell has room for its number
const LIFETIME = 60_000; // milliseconds within which a worker that lives announces itself again
const RENEWED = 3_000; // by which its record lasts longer then, at least

export class Strip {
  #rows = new Map();
  #fell = new Map(); // peer -> { until, expires }: shown as fallen until then, or until its record is a newer one
  #flow = new Flow(find("rows-box"));
  #shape = "";
  #view = null;

  /** `view`: { model, workers, sessions } of one model, or with a null model, and `at`, when it came (performance.now()). */
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
    if (this.#view === null) return;
    const worker = this.#view.workers.find((each) => each.peer === peer);
    if (worker) this.#fell.set(peer, { until: performance.now() + LIFETIME, expires: this.#expiry(worker) });
    this.#rows.get(peer)?.flash();
    this.show(this.#view);
    setTimeout(() => this.show(this.#view), LIFETIME + 100);
  }

  #trouble(worker) {
    if (worker.banned) return "banned";
    const fell = this.#fell.get(worker.peer);
    if (fell && (performance.now() > fell.until || this.#expiry(worker) > fell.expires + RENEWED)) this.#fell.delete(worker.peer);
    return worker.suspected || this.#fell.has(worker.peer) ? "no answer" : "";
  }

  #expiry(worker) {
    return this.#view.at + 1000 * worker.expires_in_s;
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

/** Those of running answers, and others from everywhere in between. */
function chosen(workers, busy) {
  const share = Math.max(0, MAX_ROWS - busy.size) / workers.length;
  return workers.filter((worker, place) => busy.has(worker.peer) || Math.floor(place * share) !== Math.floor((place + 1) * share));
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
  if (workers.length > MAX_ROWS) return `${counted(workers.length, "worker")}, of which about ${MAX_ROWS} are shown.`;
  if (workers.length) return "";
  if (model.available) return "No swarm here: this node computes every layer by itself.";
  return `No worker holds any layer of ${model.id} yet. Start one: swarm worker --model ${model.id} --bootstrap HOST:PORT`;
}
