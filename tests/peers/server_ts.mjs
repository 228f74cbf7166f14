// The small server of the peer tests on the TypeScript SDK: sessions, an event store, resumable streams.
// PEER_MODULES names the directory that holds node_modules. `--json` answers with JSON bodies instead of event streams,
// `--sse` and `--stdio` are other transports.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.PEER_MODULES}/package.json`);
const { McpServer, ResourceTemplate } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { SSEServerTransport } = require("@modelcontextprotocol/sdk/server/sse.js");
const { StdioServerTransport } = require("@modelcontextprotocol/sdk/server/stdio.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { completable } = require("@modelcontextprotocol/sdk/server/completable.js");
const types = require("@modelcontextprotocol/sdk/types.js");
const { z } = require("zod");

const PHASES = ["new", "first quarter", "full", "last quarter"];
const ended = new Map(); // key -> { promise, resolve } of a cancelled `wait`

function ending(key) {
  if (!ended.has(key)) {
    const entry = {};
    entry.promise = new Promise((resolve) => Object.assign(entry, { resolve }));
    ended.set(key, entry);
  }
  return ended.get(key);
}

class Memory {
  events = [];

  async storeEvent(stream, message) {
    this.events.push({ stream, message });
    return String(this.events.length);
  }

  async getStreamIdForEventId(id) {
    return this.events[Number(id) - 1]?.stream;
  }

  async replayEventsAfter(id, { send }) {
    const stream = this.events[Number(id) - 1]?.stream;
    for (let n = Number(id); n < this.events.length; n += 1) {
      const { stream: owner, message } = this.events[n];
      if (owner === stream && Object.keys(message).length) await send(String(n + 1), message);
    }
    return stream;
  }
}

const text = (value) => ({ content: [{ type: "text", text: value }] });

function progress(extra, done, total, message) {
  const progressToken = extra._meta?.progressToken;
  const params = { progressToken, progress: done, total, message };
  return progressToken === undefined ? undefined : extra.sendNotification({ method: "notifications/progress", params });
}

function plainTools(server) {
  const tool = (name, inputSchema, run) => server.registerTool(name, { description: `The tool ${name}`, inputSchema }, run);
  tool("echo", { text: z.string() }, (args) => text(args.text));
  tool("big", { size: z.number() }, (args) => text("0123456789abcde\n".repeat(Math.floor(args.size / 16))));
  tool("fail", {}, () => {
    throw new Error("no moon tonight");
  });
  const outputSchema = { name: z.string(), mass: z.number(), craters: z.array(z.string()) };
  server.registerTool("moon", { description: "Answer with structure", inputSchema: {}, outputSchema }, () => {
    const moon = { name: "月 Луна 🌕", mass: 7.35e22, craters: ["Tycho", "Copérnico"] };
    return { ...text(JSON.stringify(moon)), structuredContent: moon };
  });
  const headers = { description: "The headers of the request", inputSchema: {}, outputSchema: { result: z.record(z.string(), z.any()) } };
  server.registerTool("seen", headers, (_args, extra) => {
    const result = extra.requestInfo.headers;
    return { ...text(JSON.stringify(result)), structuredContent: { result } };
  });
}

function talkingTools(server) {
  const tool = (name, inputSchema, run) => server.registerTool(name, { description: `The tool ${name}`, inputSchema }, run);
  tool("count", { steps: z.number() }, async ({ steps }, extra) => {
    for (let step = 1; step <= steps; step += 1) await progress(extra, step, steps, `step ${step}`);
    return text(`${steps} steps`);
  });
  tool("talk", {}, async (_args, extra) => {
    const log = (level, data) => extra.sendNotification({ method: "notifications/message", params: { level, data } });
    await log("info", "first word");
    await log("warning", { second: "слово" });
    return text("talked");
  });
  let added;
  tool("announce", {}, () => {
    added = tool("added", {}, () => text("here")); // the SDK tells the client that the list has changed
    return text("announced");
  });
  tool("withdraw", {}, () => {
    added.remove();
    return text("withdrawn");
  });
  tool("touch", { uri: z.string() }, async ({ uri }) => {
    await server.server.sendResourceUpdated({ uri });
    return text("touched");
  });
}

function askingTools(server) {
  const tool = (name, inputSchema, run) => server.registerTool(name, { description: `The tool ${name}`, inputSchema }, run);
  tool("ask_model", { prompt: z.string() }, async ({ prompt }, extra) => {
    const params = { messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens: 50 };
    const answer = await extra.sendRequest({ method: "sampling/createMessage", params }, types.CreateMessageResultSchema);
    return text(`${prompt} -> ${answer.content.text}`);
  });
  tool("ask_user", {}, async (_args, extra) => {
    const requestedSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
    const params = { message: "What is your name?", requestedSchema };
    const answer = await extra.sendRequest({ method: "elicitation/create", params }, types.ElicitResultSchema);
    return text(`Hello ${answer.content.name}`);
  });
  tool("ask_roots", {}, async (_args, extra) => {
    const answer = await extra.sendRequest({ method: "roots/list" }, types.ListRootsResultSchema);
    return text(answer.roots.map((root) => root.uri).join(", "));
  });
  tool("wait", { key: z.string() }, async ({ key }, extra) => {
    const aborted = new Promise((resolve) => extra.signal.addEventListener("abort", resolve));
    await progress(extra, 1, 2, "waiting");
    await aborted;
    ending(key).resolve();
    return text("never");
  });
  tool("was_cancelled", { key: z.string() }, async ({ key }) => {
    await ending(key).promise;
    return text("cancelled");
  });
  tool("interrupted", {}, async (_args, extra) => {
    await progress(extra, 1, 2, "before");
    extra.closeSSEStream?.();
    await progress(extra, 2, 2, "after");
    return text("resumed");
  });
}

function resourcesAndPrompts(server) {
  const mimeType = "text/plain";
  server.registerResource("facts", "moon://facts", { mimeType }, (uri) => ({
    contents: [{ uri: uri.href, mimeType, text: "384 400 km — далеко\n" }],
  }));
  const template = new ResourceTemplate("moon://crater/{name}", { list: undefined });
  server.registerResource("crater", template, { mimeType }, (uri, { name }) => ({
    contents: [{ uri: uri.href, mimeType, text: `crater ${name}` }],
  }));
  const phase = completable(z.string(), (value) => PHASES.filter((name) => name.startsWith(value)));
  server.registerPrompt("haiku", { description: "A prompt", argsSchema: { phase } }, (args) => ({
    messages: [{ role: "user", content: { type: "text", text: `A haiku about the ${args.phase} moon` } }],
  }));
  server.server.setRequestHandler(types.SubscribeRequestSchema, () => ({}));
  server.server.setRequestHandler(types.UnsubscribeRequestSchema, () => ({}));
}

function makeServer() {
  const capabilities = { logging: {}, resources: { subscribe: true } };
  const server = new McpServer({ name: "peer-ts", version: "1.0.0" }, { capabilities, instructions: "Says what it is told. 月" });
  plainTools(server);
  talkingTools(server);
  askingTools(server);
  resourcesAndPrompts(server);
  return server;
}

const sessions = new Map();

async function newTransport() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Memory(),
    retryInterval: 20,
    enableJsonResponse: process.argv.includes("--json"),
    onsessioninitialized: (id) => sessions.set(id, transport),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await makeServer().connect(transport);
  return transport;
}

async function streamableHttp(req, res) {
  const id = req.headers["mcp-session-id"];
  if (id && !sessions.has(id)) {
    const error = { code: -32001, message: "Session not found" };
    res.writeHead(404, { "Content-Type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id: null, error }));
    return;
  }
  const transport = id ? sessions.get(id) : await newTransport();
  await transport.handleRequest(req, res);
}

async function sse(req, res) {
  const url = new URL(req.url, "http://localhost");
  if (req.method === "GET" && url.pathname === "/sse") {
    const transport = new SSEServerTransport("/messages", res);
    sessions.set(transport.sessionId, transport);
    await makeServer().connect(transport);
    return;
  }
  const transport = req.method === "POST" && sessions.get(url.searchParams.get("sessionId"));
  if (transport) await transport.handlePostMessage(req, res);
  else res.writeHead(req.method === "POST" ? 404 : 405).end();
}

function listen(answer, path) {
  const http = createServer(answer);
  http.listen(0, "127.0.0.1", () => console.log(`Listening on http://127.0.0.1:${http.address().port}${path}`));
}

if (process.argv.includes("--stdio")) await makeServer().connect(new StdioServerTransport());
else if (process.argv.includes("--sse")) listen(sse, "/sse");
else listen(streamableHttp, "/mcp");
