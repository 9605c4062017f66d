// The console's pure parts: Markdown into blocks and parts, numbers into words. Run by node --test.

import assert from "node:assert/strict";
import { test } from "node:test";

import { blocks, parts } from "../../../swarm/gateway/page/markdown.js";
import { bytes, counted, layers, listed, named, runs, seconds } from "../../../swarm/gateway/page/units.js";

test("paragraphs, headings, lists and fences", () => {
  const text = "# Title\nOne line\nand another\n\nSecond\n\n- a\n- b\n  goes on\n\n3. c\n4. d\n\n```python\nx = 1\n\n# no heading\n```\nEnd";
  assert.deepEqual(blocks(text), [
    { kind: "heading", level: 1, text: "Title" },
    { kind: "text", text: "One line\nand another" },
    { kind: "text", text: "Second" },
    { kind: "list", ordered: false, first: null, items: ["a", "b\ngoes on"] },
    { kind: "list", ordered: true, first: 3, items: ["c", "d"] },
    { kind: "code", language: "python", text: "x = 1\n\n# no heading" },
    { kind: "text", text: "End" },
  ]);
});

test("a fence that is still open is code, and a shorter one inside does not close it", () => {
  assert.deepEqual(blocks("````\n```\nx"), [{ kind: "code", language: "", text: "```\nx" }]);
  assert.deepEqual(blocks("~~~js\nx\n~~~"), [{ kind: "code", language: "js", text: "x" }]);
});

test("code without a fence stays as it was written", () => {
  const code = 'def add(a, b):\n    """Add.\n\n    Both."""\n    return a + b';
  assert.deepEqual(blocks(code), [{ kind: "text", text: code }]);
});

test("a text that grows leaves all but its last two blocks as they were", () => {
  const text = "One\n\n- a\n- b\n\n```\ncode\n```\n\nTwo **strong** words";
  let before = [];
  for (let end = 1; end <= text.length; end += 1) {
    const now = blocks(text.slice(0, end));
    const settled = Math.max(0, before.length - 2);
    assert.deepEqual(now.slice(0, settled), before.slice(0, settled));
    before = now;
  }
});

test("code and strong words within a line; nothing else is emphasis", () => {
  assert.deepEqual(parts("use `a*b` and **two words**, not __init__ or *args"), [
    { kind: "plain", text: "use " },
    { kind: "code", text: "a*b" },
    { kind: "plain", text: " and " },
    { kind: "strong", text: "two words" },
    { kind: "plain", text: ", not __init__ or *args" },
  ]);
  assert.deepEqual(parts("f(**kwargs) and g(**kwargs)"), [{ kind: "plain", text: "f(**kwargs) and g(**kwargs)" }]);
  assert.deepEqual(parts("<b>`"), [{ kind: "plain", text: "<b>`" }]);
});

/** With ordinary spaces. */
function spaced(text) {
  return text.replaceAll("\u00a0", " ");
}

test("numbers as people read them", () => {
  assert.deepEqual([0, 999, 1500, 16e9, 2.5e15].map(bytes).map(spaced), ["0 B", "999 B", "1.5 kB", "16 GB", "2.5 PB"]);
  assert.deepEqual([null, 0.0042, 0.0379, 2.34, 250].map(seconds).map(spaced), ["–", "4.2 ms", "38 ms", "2.3 s", "250 s"]);
  assert.deepEqual([layers(4, 5), layers(4, 8)], ["4", "4–7"]);
  assert.deepEqual([named([[7, 8]]), named([[4, 8], [12, 13]])], ["layer 7", "layers 4–7 and 12"]);
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
  assert.deepEqual([counted(1, "row"), counted(1200, "row")], ["1 row", "1,200 rows"]);
  assert.deepEqual(runs(6, (layer) => [0, 1, 4].includes(layer)), [[0, 2], [4, 5]]);
});
