/** The console: takes what the gateway tells and hands it to those who show it. */

import { find, make, say } from "./element.js";
import { Sessions, tell } from "./happening.js";
import { Strip } from "./strip.js";
import { ApiError, Swarm } from "./swarm.js";
import { Talk } from "./talk.js";
import { short } from "./units.js";

const KEPT = "swarm-key"; // in the tab's own storage

class Console {
  #swarm = new Swarm("", { key: sessionStorage.getItem(KEPT) });
  #status = null;
  #at = 0; // when it came
  #strip = new Strip();
  #sessions = new Sessions();

  start() {
    new Talk((messages, options) => this.#swarm.chat(messages, options));
    find("model").addEventListener("change", () => this.#show());
    find("key").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter(find("key-text").value);
    });
    this.#watch();
  }

  /** Everything that happens, for as long as the page is open or until the gateway does not let it in. */
  async #watch() {
    try {
      for await (const { name, data } of this.#swarm.events({ onbreak: (error) => this.#broken(error) })) {
        this.#link("live", "live");
        this.#happened(name, data);
      }
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.#locked();
      else this.#link("gone", error.message);
    }
  }

  #happened(name, data) {
    if (name === "status") {
      [this.#status, this.#at] = [data, performance.now()];
      this.#show();
    } else if (name === "token") {
      this.#strip.pulse(data.session);
      this.#sessions.told(data.session, data.tokens);
    } else if (name === "failover") {
      tell(data);
      this.#strip.fell(data.peer);
    }
  }

  #show() {
    if (this.#status === null) return;
    const { node, models, workers, sessions } = this.#status;
    offer(models);
    const model = models.find((each) => each.id === find("model").value) ?? null;
    this.#strip.show({
      at: this.#at,
      model,
      workers: model ? workers.filter((worker) => worker.digest === model.digest) : [],
      sessions: model ? sessions.filter((session) => session.model === model.id) : [],
    });
    this.#sessions.show(sessions, (id) => this.#strip.colour(id));
    say(find("node"), `${node.peer ? `Node ${short(node.peer)} (${node.mode}), ` : ""}swarm ${node.version}`);
    find("key").hidden = true;
  }

  #broken(error) {
    // The gateway's own words where it spoke: too many watch, say.
    const words = error instanceof ApiError ? error.message : "the gateway is gone";
    this.#link("gone", `${words}: reconnecting`);
  }

  #locked() {
    const tried = sessionStorage.getItem(KEPT) !== null;
    sessionStorage.removeItem(KEPT);
    this.#link("gone", "API key needed");
    find("key").hidden = false;
    find("main").hidden = true;
    if (tried) say(find("key-why"), "This gateway does not know that key. Another?");
    find("key-text").focus();
  }

  #enter(key) {
    sessionStorage.setItem(KEPT, key);
    this.#swarm = new Swarm("", { key });
    find("key-text").value = "";
    find("key").hidden = true;
    find("main").hidden = false;
    find("question").focus();
    this.#link("waiting", "connecting");
    this.#watch();
  }

  #link(state, words) {
    find("link").dataset.state = state;
    document.body.classList.toggle("stale", state === "gone");
    say(find("link"), words);
  }
}

/** The models to pick from; whatever was picked stays picked. */
function offer(models) {
  const picker = find("model");
  const shape = JSON.stringify(models.map((model) => [model.id, model.available]));
  if (picker.dataset.shape === shape) return;
  picker.dataset.shape = shape;
  const picked = picker.value;
  const choices = models.map((model) =>
    make("option", { value: model.id, text: model.available ? model.id : `${model.id} (layers missing)` }),
  );
  picker.replaceChildren(...(choices.length ? choices : [make("option", { value: "", text: "no model" })]));
  picker.disabled = !choices.length;
  const best = models.find((model) => model.id === picked) ?? models.find((model) => model.available) ?? models[0];
  if (best) picker.value = best.id;
}

new Console().start();
