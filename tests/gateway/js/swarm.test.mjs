// swarm.js against a gateway that the Python test has started: SWARM_URL and SWARM_KEY say where. Run by node --test.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { ApiError, ConnectionError, Swarm } from "../../../swarm/gateway/page/swarm.js";

const url = process.env.SWARM_URL;
const key = process.env.SWARM_KEY;
const model = "demo";
const asked = [{ role: "user", content: "a function that adds two numbers" }];
const greedy = { model, temperature: 0 };

async function text(deltas) {
  let found = "";
  let last = null;
  for await (const delta of deltas) {
    found += delta.text ?? "";
    last = delta;
  }
  return [found, last];
}

/** A gateway that says what it is told to. */
async function pretending(answer, use) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(new Swarm(`http://127.0.0.1:${server.address().port}/`));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("models and status", async () => {
  const swarm = new Swarm(`${url}/`, { key });
  assert.deepEqual((await swarm.models()).map((each) => each.id), [model]);
  const status = await swarm.status();
  assert.equal(status.models[0].id, model);
});

test("a chat is what a completion of the same prompt is not, and ends with its usage", async () => {
  const swarm = new Swarm(url, { key });
  const [first, last] = await text(swarm.chat(asked, { ...greedy, max_tokens: 12 }));
  assert.ok(first.length > 0);
  assert.equal(last.finish, "length");
  assert.equal(last.usage.completion_tokens, 12);
  const [again] = await text(swarm.chat(asked, { ...greedy, max_tokens: 12 }));
  assert.equal(again, first);
  const [completed, end] = await text(swarm.complete("def add(", { ...greedy, max_tokens: 5 }));
  assert.ok(completed.length > 0);
  assert.equal(end.usage.completion_tokens, 5);
});

test("a tool is called", async () => {
  const swarm = new Swarm(url, { key });
  const parameters = { type: "object", properties: { a: { enum: [1] } }, required: ["a"], additionalProperties: false };
  const tools = [{ type: "function", function: { name: "add", parameters } }];
  const calls = [];
  for await (const delta of swarm.chat(asked, { ...greedy, tools, tool_choice: "required", max_tokens: 100 })) {
    if (delta.call) calls.push(delta.call);
  }
  assert.equal(calls[0].name, "add");
  assert.deepEqual(JSON.parse(calls.map((call) => call.arguments).join("")), { a: 1 });
});

test("vectors", async () => {
  const [one, other] = await new Swarm(url, { key }).embed(["def add", "import os"], { model });
  assert.equal(one.length, 128);
  assert.notDeepEqual(one, other);
});

test("refusals are typed", async () => {
  const swarm = new Swarm(url, { key });
  await assert.rejects(text(swarm.chat(asked, { model: "other" })), (error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.code, error.param], [404, "model_not_found", "model"]);
    return true;
  });
  await assert.rejects(new Swarm(url, { key: "wrong" }).models(), { name: "ApiError", status: 401 });
  await assert.rejects(new Swarm("http://127.0.0.1:1").models(), ConnectionError);
});

test("an answer is aborted by its signal, and by not reading on", async () => {
  const swarm = new Swarm(url, { key });
  const ended = new Map();
  const watching = new AbortController();
  const watch = (async () => {
    for await (const { name, data } of swarm.events({ signal: watching.signal })) {
      if (name === "session" && data.phase === "ended") ended.set(data.session, data.tokens);
      if (ended.size === 2) watching.abort();
    }
  })();
  const stopping = new AbortController();
  await assert.rejects(async () => {
    for await (const delta of swarm.chat(asked, { ...greedy, max_tokens: 1000, ignore_eos: true, signal: stopping.signal })) {
      if (delta.text) stopping.abort();
    }
  }, { name: "AbortError" });
  for await (const delta of swarm.chat(asked, { ...greedy, max_tokens: 1000, ignore_eos: true })) {
    if (delta.text) break;
  }
  await watch;
  for (const tokens of ended.values()) assert.ok(tokens < 1000);
});

test("events come in whatever pieces the network makes of them", async () => {
  const raw = Buffer.from(': hello\n\nevent: status\r\ndata: {"a":\r\ndata: "ü"}\r\n\r\ndata: {"b": 2}\n\n');
  function answer(_, response) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    let place = 0;
    const timer = setInterval(() => {
      if (place < raw.length) response.write(raw.subarray(place, ++place));
      else clearInterval(timer);
    }, 1);
    response.on("close", () => clearInterval(timer));
  }
  await pretending(answer, async (swarm) => {
    const seen = [];
    for await (const event of swarm.events()) {
      seen.push(event);
      if (seen.length === 2) break;
    }
    assert.deepEqual(seen, [{ name: "status", data: { a: "ü" } }, { name: "message", data: { b: 2 } }]);
  });
});

test("a stream that breaks off says so; events begin again", async () => {
  let requests = 0;
  function answer(request, response) {
    requests += 1;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`data: {"choices": [{"delta": {"content": "${requests}"}}], "number": ${requests}}\n\n`, () => response.destroy());
  }
  await pretending(answer, async (swarm) => {
    await assert.rejects(text(swarm.chat(asked, { model })), ConnectionError);
    const breaks = [];
    const seen = [];
    for await (const { data } of swarm.events({ onbreak: (error) => breaks.push(error.name) })) {
      seen.push(data.number);
      if (seen.length === 2) break;
    }
    assert.deepEqual(seen, [2, 3]);
    assert.deepEqual(breaks, ["ConnectionError"]);
  });
});

test("events that fall silent begin again", async () => {
  let requests = 0;
  function answer(_, response) {
    requests += 1;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(requests === 1 ? ": nothing to tell yet\n\n" : 'data: {"number": 2}\n\n');
  }
  await pretending(answer, async (swarm) => {
    const breaks = [];
    for await (const { data } of swarm.events({ silence: 100, onbreak: (error) => breaks.push(error.message) })) {
      assert.equal(data.number, 2);
      break;
    }
    assert.deepEqual(breaks, ["the gateway says nothing any more"]);
  });
});

test("an error in mid-stream is an error", async () => {
  function answer(_, response) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end('event: error\ndata: {"error": {"message": "layers 4-7 are missing", "code": "layers_missing"}}\n\n');
  }
  await pretending(answer, async (swarm) => {
    await assert.rejects(text(swarm.chat(asked, { model })), { name: "ApiError", code: "layers_missing" });
  });
});

test("a page of a proxy's own is an error with its status", async () => {
  function answer(_, response) {
    response.writeHead(503, { "retry-after": "7" });
    response.end("<html>");
  }
  await pretending(answer, async (swarm) => {
    await assert.rejects(swarm.models(), { name: "ApiError", status: 503, retryAfter: 7 });
  });
});
