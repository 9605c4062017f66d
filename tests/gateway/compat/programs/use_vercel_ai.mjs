// Vercel's ai with three providers: a tool whose call is streamed, its result, and last words that have to fit a schema.

import { readFileSync } from "node:fs";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const baseURL = `${process.env.GATEWAY}/v1`;
const openai = createOpenAI({ baseURL, apiKey: "any" });
const compatible = createOpenAICompatible({ name: "swarm", baseURL, apiKey: "any", supportsStructuredOutputs: true });
const models = [
  openai.chat("probe"),
  openai.responses("probe"),
  compatible("probe"),
  createAnthropic({ baseURL, apiKey: "any" })("probe"),
];
for (const model of models) {
  for (const typed of [false, true]) {
    const read = [];
    const asked = {
      model,
      maxRetries: 0,
      providerOptions: { anthropic: { structuredOutputMode: "outputFormat" } }, // not by a tool that is demanded
      prompt: "What does note.txt say?",
      stopWhen: stepCountIs(3),
      tools: {
        read_note: tool({
          description: "Reads a note",
          inputSchema: z.object({ name: z.string() }),
          execute: async ({ name }) => {
            read.push(name);
            return readFileSync(name, "utf8");
          },
        }),
      },
      ...(typed ? { output: Output.object({ schema: z.object({ said: z.string() }) }) } : {}),
    };
    const answer = typed ? await generateText(asked) : streamText(asked);
    const said = await (typed ? answer.output : answer.text);
    console.log(model.provider, typed, JSON.stringify(said), read);
    if (read.length !== 1) throw new Error("the tool is called although the last words have a type");
  }
}
console.log("every turn is whole");
