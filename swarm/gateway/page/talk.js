/** The chat: what was said, what is being answered, and what went wrong. Whoever makes it says how to ask. */

import { find, make, say } from "./element.js";
import { Shown } from "./markdown.js";
import { counted, seconds } from "./units.js";

const NEAR = 80; // pixels from its end within which the conversation follows what is written

export class Talk {
  #ask;
  #messages = [];
  #running = null; // AbortController of the answer under way

  /** `ask(messages, options)` gives the deltas of an answer; options are those of Swarm.chat. */
  constructor(ask) {
    this.#ask = ask;
    const question = find("question");
    find("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    question.addEventListener("input", () => fit(question));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#running) this.stop();
    });
    find("stop").addEventListener("click", () => this.stop());
    find("anew").addEventListener("click", () => this.#anew());
  }

  stop() {
    this.#running?.abort();
    find("question").focus();
  }

  #anew() {
    this.stop();
    this.#messages = [];
    find("said").replaceChildren(find("talk-empty"));
    find("talk-empty").hidden = false;
    find("anew").disabled = true;
    find("question").focus();
  }

  #send() {
    const question = find("question");
    const content = question.value.trim();
    if (!content || this.#running) return;
    question.value = "";
    fit(question);
    this.#messages.push({ role: "user", content });
    find("talk-empty").hidden = true;
    find("anew").disabled = false;
    find("said").append(spoken("user", "You", make("p", { class: "text", text: content })));
    this.#answer();
  }

  async #answer() {
    const view = new AnswerView(find("model").value);
    const messages = this.#messages;
    const running = (this.#running = new AbortController());
    this.#shown(true);
    follow(true);
    let problem = null;
    try {
      for await (const delta of this.#ask(messages, { ...options(), signal: running.signal })) view.take(delta);
    } catch (error) {
      if (!running.signal.aborted) problem = error;
    }
    view.end(running.signal.aborted, problem, () => this.#again(view, messages));
    // What was said until then is what the model is told it said.
    if (view.text && messages.at(-1)?.role === "user") messages.push({ role: "assistant", content: view.text });
    this.#running = null;
    this.#shown(false);
  }

  #again(view, messages) {
    if (this.#running || messages !== this.#messages) return;
    view.element.remove();
    if (messages.at(-1)?.role === "assistant") messages.pop();
    this.#answer();
    find("question").focus();
  }

  #shown(running) {
    const focused = document.activeElement;
    find("stop").hidden = !running;
    find("send").hidden = running;
    find("said").setAttribute("aria-busy", String(running));
    if (focused === find("send") && running) find("stop").focus();
    if (focused === find("stop") && !running) find("question").focus();
  }
}

/** One answer as it grows: thoughts, text, and at last figures or what went wrong. */
class AnswerView {
  text = "";
  #thought = "";
  #shown;
  #usage = null;
  #finish = null;
  #asked = performance.now();
  #first = null;
  #frame = null; // in which it will be drawn

  constructor(model) {
    this.body = make("div", { class: "text" });
    this.facts = make("p", { class: "facts", text: "waiting for the first word" });
    this.element = spoken("answer", model, this.body, this.facts);
    this.element.classList.add("growing");
    this.#shown = new Shown(this.body);
    find("said").append(this.element);
  }

  take({ text, thought, finish, usage }) {
    if (text || thought) this.#first ??= performance.now();
    this.text += text ?? "";
    this.#thought += thought ?? "";
    if (usage) [this.#finish, this.#usage] = [finish, usage];
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  end(stopped, problem, again) {
    this.element.classList.remove("growing");
    cancelAnimationFrame(this.#frame);
    this.#draw();
    if (stopped || problem) say(this.facts, stopped ? "stopped" : "");
    if (problem) {
      const retry = make("button", { type: "button", class: "quiet", text: "Try again" });
      retry.addEventListener("click", again);
      this.facts.replaceWith(make("div", { class: "problem", role: "alert" }, make("p", { text: problem.message }), retry));
    } else if (this.text) {
      const copy = make("button", { type: "button", class: "quiet copy", text: "Copy" });
      copy.addEventListener("click", () => copied(copy, this.text));
      this.facts.after(copy);
    }
    follow();
  }

  #draw() {
    this.#frame = null;
    const following = followed();
    this.#shown.show(this.text);
    if (this.#thought) {
      this.thinking ??= this.#think();
      say(this.thinking, this.#thought);
    }
    say(this.facts, this.#told());
    if (following) follow(true);
  }

  #think() {
    const text = make("p");
    this.body.before(make("details", { class: "thought" }, make("summary", { text: "Thoughts" }), text));
    return text;
  }

  #told() {
    if (this.#usage === null) return this.#first === null ? "waiting for the first word" : "writing";
    const { completion_tokens: tokens, prompt_tokens_details: details } = this.#usage;
    const spent = (performance.now() - this.#first) / 1000;
    this.facts.dataset.tokens = tokens;
    const facts = [counted(tokens, "token"), `first after ${seconds((this.#first - this.#asked) / 1000)}`];
    if (tokens > 1 && spent > 0) facts.push(`${((tokens - 1) / spent).toFixed(1)} tokens/s`);
    if (details?.cached_tokens) facts.push(`${details.cached_tokens} of the prompt were still there`);
    if (this.#finish === "length") facts.push("cut at the limit");
    return facts.join(" · ");
  }
}

function spoken(kind, who, ...children) {
  return make("article", { class: `turn ${kind}` }, make("h3", { class: kind === "user" ? "unseen" : "who", text: who }), ...children);
}

function options() {
  const [temperature, most] = [find("temperature"), find("most")].map((field) => (field.value === "" ? null : Number(field.value)));
  return { model: find("model").value, temperature, max_tokens: most };
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    say(button, "Copied");
  } catch {
    say(button, "Not allowed here"); // browsers give the clipboard to pages of this machine or over TLS only
  }
  setTimeout(() => say(button, "Copy"), 2000);
}

/** As high as what is written in it. */
function fit(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

function followed() {
  const box = find("said");
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
}

function follow(always = followed()) {
  const box = find("said");
  if (always) box.scrollTop = box.scrollHeight;
}
