/** What goes on: the answers under way, and the workers that were replaced in the middle of one. Knows nothing of HTTP. */

import { find, make, say } from "./element.js";
import { counted, named, seconds, short } from "./units.js";

const MAX_FAILOVERS = 50; // kept in the log
const MAX_SESSIONS = 30; // listed at once
const STATES = {
  opening: "looking for a chain",
  waiting: "waiting",
  prompt: "reading the prompt",
  decoding: "writing",
  recovering: "replacing a worker",
};

/** The list of running answers, kept in step with the status and with token events. */
export class Sessions {
  #items = new Map();

  show(sessions, colour) {
    const shown = sessions.slice(0, MAX_SESSIONS);
    const wanted = new Set(shown.map((session) => session.id));
    for (const [id, item] of this.#items) {
      if (wanted.has(id)) continue;
      item.element.remove();
      this.#items.delete(id);
    }
    for (const session of shown) {
      const item = this.#items.get(session.id) ?? this.#begin(session.id);
      item.element.className = colour(session.id) ?? "";
      item.rate = session.tokens_per_second;
      say(item.state, `${session.model}: ${STATES[session.state] ?? session.state}`);
      say(item.chain, through(session.chain));
      item.told = Math.max(item.told, session.tokens);
      this.#count(item);
    }
    const hidden = sessions.length - shown.length;
    say(find("sessions-empty"), hidden ? `${counted(hidden, "answer")} more.` : "Nobody is asking right now.");
    find("sessions-empty").hidden = sessions.length > 0 && !hidden;
  }

  told(session, tokens) {
    const item = this.#items.get(session);
    if (!item) return;
    item.told = Math.max(item.told, tokens);
    this.#count(item);
  }

  #count(item) {
    const rate = item.rate ? `, ${item.rate.toFixed(item.rate < 10 ? 1 : 0)}/s` : "";
    say(item.tokens, `${counted(item.told, "token")}${rate}`);
  }

  #begin(id) {
    const [state, tokens, chain] = ["state", "tokens", "through"].map((name) => make("span", { class: name }));
    chain.title = "→ handed on directly, ⇠ ⇢ by way of the gateway";
    const item = { element: make("li", {}, make("i"), state, tokens, chain), state, tokens, chain, told: 0, rate: null };
    this.#items.set(id, item);
    find("sessions").append(item.element);
    return item;
  }
}

/** The workers of a chain, one that has two places side by side named once, and between them how rows get from one to the next: by
 * themselves, or by way of the gateway. */
function through(chain) {
  let told = "";
  chain.forEach(({ peer }, place) => {
    const before = chain[place - 1];
    if (before?.peer === peer) return;
    told += `${before ? (before.direct ? " → " : " ⇠ ⇢ ") : ""}${short(peer)}`;
  });
  return told || "on this node";
}

/** One more line in the log of failovers, the newest first. */
export function tell({ peer, layers, to, cause, rows, seconds: took }, now = new Date()) {
  const when = now.toLocaleTimeString("en", { hour12: false });
  const [first, last] = layers.split("-").map(Number);
  const line = make(
    "li",
    { title: cause ?? null },
    make("time", { datetime: now.toISOString(), text: when }),
    make(
      "p",
      {},
      make("code", { text: short(peer) }),
      ` fell out of ${named([[first, (last || first) + 1]])}: `,
      ...to.flatMap((each, place) => [place ? " and " : "", make("code", { text: short(each) })]),
      ` took over ${counted(rows, "row")} in ${seconds(took)}, and the answer went on.`,
    ),
  );
  find("failovers").prepend(line);
  while (find("failovers").childElementCount > MAX_FAILOVERS) find("failovers").lastElementChild.remove();
  find("failovers-empty").hidden = true;
}
