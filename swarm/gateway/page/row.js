/** One worker as a row of the strip: its span as a bar over the layers, its memory, how far it is, what waits there. */

import { make, moves, say } from "./element.js";
import { bytes, layers, seconds } from "./units.js";

const FLASH = { duration: 1400, easing: "ease-out" };

export class Row {
  constructor(peer) {
    this.peer = peer;
    this.words = make("span", { class: "unseen" });
    this.name = make("span", { class: "names", "aria-hidden": "true" });
    this.label = make("span", { class: "label" });
    this.bar = make("div", { class: "bar" }, this.label);
    this.axis = make("div", { class: "axis", "aria-hidden": "true" }, this.bar);
    this.used = make("i");
    this.memory = make("span", { class: "memory" }, this.used);
    this.latency = make("span", { class: "latency" });
    this.queue = make("span", { class: "queue" });
    const figures = make("span", { class: "figures", "aria-hidden": "true" }, this.memory, this.latency, this.queue);
    this.element = make("li", { class: "row" }, this.words, this.name, this.axis, figures);
    this.element.dataset.peer = peer;
  }

  /** `trouble` says what is wrong with it, or is empty. */
  show(worker, count, trouble) {
    const { start, stop } = worker;
    this.element.dataset.state = trouble ? "fallen" : worker.state;
    this.bar.style.left = `${(100 * start) / count}%`;
    this.bar.style.width = `${(100 * (stop - start)) / count}%`;
    const note = trouble || (worker.doing === "serving" ? "" : worker.doing);
    say(this.name, worker.name);
    say(this.label, note ? `${layers(start, stop)} · ${note}` : layers(start, stop));
    const share = worker.memory_total > 0 ? 1 - worker.memory_free / worker.memory_total : 0;
    const percent = Math.round(100 * Math.min(1, Math.max(0, share)));
    this.used.style.width = `${percent}%`;
    this.memory.classList.toggle("tight", percent >= 90);
    say(this.latency, seconds(worker.round_trip_s));
    say(this.queue, worker.queue_rows === null ? "–" : String(worker.queue_rows));
    const where = worker.region ? ` in ${worker.region}` : "";
    this.element.title = [
      `${worker.name} on ${worker.device}${where}, ${worker.precision}`,
      `memory ${bytes(worker.memory_total - worker.memory_free)} of ${bytes(worker.memory_total)}`,
      `room for ${worker.cache_tokens_free.toLocaleString("en")} tokens`,
      `about ${Math.round(worker.tokens_per_second)} tokens/s`,
    ].join("\n");
    const away = worker.round_trip_s === null ? "" : `, ${seconds(worker.round_trip_s)} away`;
    const waiting = worker.queue_rows ? `, ${worker.queue_rows} rows waiting` : "";
    say(
      this.words,
      `Worker ${worker.name}: layers ${layers(start, stop)}, ${note || "serving"}, memory ${percent} % used${away}${waiting}`,
    );
  }

  flash() {
    if (moves()) this.element.animate([{ backgroundColor: "var(--bad-soft)" }, { backgroundColor: "transparent" }], FLASH);
  }
}
