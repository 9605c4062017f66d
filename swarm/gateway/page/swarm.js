/**
 * swarm's JavaScript client, for browsers and Node 20 or newer. No dependencies.
 *
 *     import { Swarm } from "http://127.0.0.1:8080/swarm.js";
 *     const swarm = new Swarm("http://127.0.0.1:8080", { key: "..." });
 *     for await (const delta of swarm.chat([{ role: "user", content: "Hello" }], { model: "demo" })) {
 *       if (delta.text) process.stdout.write(delta.text);
 *     }
 *
 * Requests take an AbortSignal as `signal`. What goes wrong is a SwarmError: ApiError when the gateway refused (with `status`,
 * `code`, `param` and `retryAfter`), ConnectionError when it could not be reached or broke off, and whatever the signal was
 * aborted with.
 */

const MAX_EVENT_CHARACTERS = 8 << 20; // of one event that has not ended
const FIRST_PAUSE = 500; // milliseconds before a broken event stream is opened again, doubling
const LONGEST_PAUSE = 10_000;
const LONGEST_SILENCE = 35_000; // of an event stream, which says that it lives every 10 s

/** Anything that this module raises. */
export class SwarmError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The gateway could not be reached, or broke off in the middle of an answer. */
export class ConnectionError extends SwarmError {}

/** The gateway refused, or failed. */
export class ApiError extends SwarmError {
  constructor(message, { status = null, code = null, type = null, param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, type, param, retryAfter });
  }
}

/** A gateway. `url` is where it is, such as "http://127.0.0.1:8080"; in a page that it serves, "" will do. */
export class Swarm {
  #url;
  #key;
  #fetch;

  constructor(url = "", { key = null, fetch = globalThis.fetch } = {}) {
    this.#url = String(url).replace(/\/+$/, "");
    this.#key = key;
    this.#fetch = (...given) => fetch(...given);
  }

  /** The models that can be asked for: [{ id, context_length, ... }]. */
  async models({ signal } = {}) {
    return (await this.#json("/v1/models", { signal })).data;
  }

  /** What `/api/status` says: { node, models, workers, sessions }. */
  status({ signal } = {}) {
    return this.#json("/api/status", { signal });
  }

  /**
   * Answer messages. Yields { text } pieces, { thought } and { call: { index, id, name, arguments } } pieces, and at last
   * { finish, usage }. Options are those of OpenAI's chat completions, with `model` and `signal`; one choice only.
   */
  async *chat(messages, { signal, ...options } = {}) {
    const body = { ...options, messages, stream: true, stream_options: { include_usage: true } };
    let finish = null;
    for await (const { data } of this.#events("/v1/chat/completions", { body, signal })) {
      const chunk = JSON.parse(data);
      if (chunk.usage) {
        yield { finish, usage: chunk.usage };
        continue;
      }
      const choice = chunk.choices[0];
      if (choice.delta.content) yield { text: choice.delta.content };
      if (choice.delta.reasoning_content) yield { thought: choice.delta.reasoning_content };
      for (const call of choice.delta.tool_calls ?? []) {
        yield { call: { index: call.index, id: call.id, name: call.function.name, arguments: call.function.arguments } };
      }
      finish = choice.finish_reason ?? finish;
    }
  }

  /** Go on from a text as it is. Yields { text } pieces, and at last { finish, usage }. */
  async *complete(prompt, { signal, ...options } = {}) {
    const body = { ...options, prompt, stream: true, stream_options: { include_usage: true } };
    let finish = null;
    for await (const { data } of this.#events("/v1/completions", { body, signal })) {
      const chunk = JSON.parse(data);
      if (chunk.usage) {
        yield { finish, usage: chunk.usage };
        continue;
      }
      const choice = chunk.choices[0];
      if (choice.text) yield { text: choice.text };
      finish = choice.finish_reason ?? finish;
    }
  }

  /** Vectors of length 1 for texts: an array of arrays, in their order. */
  async embed(input, { signal, ...options } = {}) {
    const body = { ...options, input, encoding_format: "float" };
    const answer = await this.#json("/v1/embeddings", { body, signal });
    return answer.data.map((each) => each.embedding);
  }

  /**
   * What happens in the swarm, as it happens: { name, data } with the names of `/api/events` ("status", "session", "token",
   * "failover"). A connection that breaks, or that is silent for `silence` milliseconds, is made again, for as long as nobody
   * aborts; `onbreak(error)` hears of it.
   */
  async *events({ signal, onbreak = () => {}, silence = LONGEST_SILENCE } = {}) {
    let pause = FIRST_PAUSE;
    for (;;) {
      const silent = new AbortController();
      const both = signal ? AbortSignal.any([signal, silent.signal]) : silent.signal;
      let timer = null;
      const heard = () => {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(new ConnectionError("the gateway says nothing any more")), silence);
      };
      try {
        heard();
        for await (const { name, data } of this.#events("/api/events", { signal: both, heard })) {
          pause = FIRST_PAUSE;
          yield { name, data: JSON.parse(data) };
        }
        throw new ConnectionError("the gateway ended its events");
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
        if (!(error instanceof SwarmError)) throw error;
        onbreak(error);
      } finally {
        clearTimeout(timer);
      }
      await sleep(pause, signal);
      if (signal?.aborted) return;
      pause = Math.min(LONGEST_PAUSE, pause * 2);
    }
  }

  async #request(path, { body, signal } = {}) {
    const headers = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    if (this.#key) headers.authorization = `Bearer ${this.#key}`;
    let answer;
    try {
      answer = await this.#fetch(this.#url + path, {
        method: body === undefined ? "GET" : "POST",
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      });
    } catch (error) {
      throw failure(error, signal, `${this.#url || "the gateway"} cannot be reached`);
    }
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  async #json(path, options) {
    const answer = await this.#request(path, options);
    try {
      return await answer.json();
    } catch (error) {
      throw failure(error, options.signal, "the gateway broke off");
    }
  }

  async *#events(path, options) {
    const answer = await this.#request(path, options);
    for await (const event of read(answer.body, options)) {
      if (event.data === "[DONE]") return;
      if (event.name === "error") {
        const { message, ...details } = JSON.parse(event.data).error;
        throw new ApiError(message, details);
      }
      yield event;
    }
    if (path !== "/api/events") throw new ConnectionError("the gateway broke off in the middle of an answer");
  }
}

/** Server-sent events (WHATWG HTML, 9.2) of a stream of bytes: { name, data }. */
async function* read(stream, { signal, heard = () => {} }) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  try {
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (error) {
        throw failure(error, signal, "the gateway broke off");
      }
      if (part.done) return;
      heard();
      waiting += decoder.decode(part.value, { stream: true });
      const blocks = waiting.split(/\r\n\r\n|\n\n|\r\r/);
      waiting = blocks.pop();
      if (waiting.length > MAX_EVENT_CHARACTERS) throw new ConnectionError("an event of the gateway has no end");
      for (const block of blocks) {
        const event = parse(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    // Whoever stops reading stops the answer, too.
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { name, data: data.join("\n") } : null;
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // a proxy in between may answer with a page of its own
  }
  const { message = `the gateway answered ${answer.status}`, code, type, param } = error;
  const wait = answer.headers.get("retry-after");
  return new ApiError(message, { status: answer.status, code, type, param, retryAfter: wait === null ? null : Number(wait) });
}

function failure(error, signal, message) {
  return signal?.aborted ? signal.reason : new ConnectionError(message, { cause: error });
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
  });
}
