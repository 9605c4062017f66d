/**
 * As much of Markdown as a chat needs: paragraphs, headings, lists, code. What a model wrote becomes nodes and text, never markup.
 *
 * Emphasis with single stars and underscores stays as it is written: in answers about code it is mostly none.
 */

import { make } from "./element.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^ {0,3}(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/;

/** The blocks of a text: { kind: "code" | "heading" | "list" | "text", ... }. A fence that is still open is code as well. */
export function blocks(text) {
  const found = [];
  let fence = null;
  for (const line of text.split("\n")) {
    const last = found.at(-1);
    if (fence !== null) {
      if (line.trim().startsWith(fence) && !line.trim().slice(fence.length).trim().replaceAll(fence[0], "")) fence = null;
      else last.lines.push(line);
      continue;
    }
    const opened = FENCE.exec(line);
    const heading = HEADING.exec(line);
    const item = ITEM.exec(line);
    if (opened) {
      fence = opened[1];
      found.push({ kind: "code", language: opened[2], lines: [] });
    } else if (heading) found.push({ kind: "heading", level: heading[1].length, lines: [heading[2]] });
    else if (item) listed(found, item);
    else if (!line.trim()) found.push({ kind: "gap", lines: [line] });
    else if (last?.kind === "list" && /^\s/.test(line)) last.lines[last.lines.length - 1] += `\n${line.trim()}`;
    else if (last?.kind === "text") last.lines.push(line);
    else found.push({ kind: "text", lines: [line] });
  }
  return joined(found);
}

/** The parts of a line: { kind: "plain" | "code" | "strong", text }. */
export function parts(text) {
  const found = [];
  let place = 0;
  for (const match of text.matchAll(/(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(\S(?:[^*\n]*\S)?)\*\*(?!\w)/g)) {
    if (match.index > place) found.push({ kind: "plain", text: text.slice(place, match.index) });
    found.push(match[1] ? { kind: "code", text: match[2] } : { kind: "strong", text: match[3] });
    place = match.index + match[0].length;
  }
  if (place < text.length) found.push({ kind: "plain", text: text.slice(place) });
  return found;
}

/** A text that grows, shown in an element: only the blocks that changed are made anew. */
export class Shown {
  #element;
  #keys = [];

  constructor(element) {
    this.#element = element;
  }

  show(text) {
    const wanted = blocks(text);
    const keys = wanted.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < keys.length && keys[same] === this.#keys[same]) same += 1;
    while (this.#element.childNodes.length > same) this.#element.lastChild.remove();
    this.#element.append(...wanted.slice(same).map(node));
    this.#keys = keys;
  }
}

function listed(found, [, bullet, number, text]) {
  const last = found.at(-1);
  const ordered = bullet === undefined;
  if (last?.kind === "list" && last.ordered === ordered) last.lines.push(text);
  else found.push({ kind: "list", ordered, first: ordered ? Number(number) : null, lines: [text] });
}

/** Paragraphs without blank lines between blocks; those inside a text that begins with spaces (code without a fence) stay. */
function joined(found) {
  const kept = [];
  let gap = 0;
  for (const block of found) {
    const last = kept.at(-1);
    if (block.kind === "gap") gap += 1;
    else if (gap && block.kind === "text" && last?.kind === "text" && /^\s/.test(block.lines[0])) {
      last.lines.push(...Array(gap).fill(""), ...block.lines);
      gap = 0;
    } else {
      kept.push(block);
      gap = 0;
    }
  }
  return kept.map(({ lines, ...block }) => (block.kind === "list" ? { ...block, items: lines } : { ...block, text: lines.join("\n") }));
}

function node(block) {
  if (block.kind === "code") {
    const label = block.language ? `code in ${block.language}` : "code";
    return make("pre", { tabindex: "0", role: "region", "aria-label": label }, make("code", { text: block.text }));
  }
  if (block.kind === "list") {
    const items = block.items.map((item) => make("li", {}, ...inline(item)));
    return make(block.ordered ? "ol" : "ul", { start: block.ordered && block.first !== 1 ? block.first : null }, ...items);
  }
  // The page's own headings end at the third level.
  return make(block.kind === "heading" ? `h${Math.min(6, block.level + 3)}` : "p", {}, ...inline(block.text));
}

function inline(text) {
  return parts(text).map(({ kind, text: part }) =>
    kind === "plain" ? document.createTextNode(part) : make(kind, { text: part }),
  );
}
