// A client on the TypeScript SDK. What it reads and prints is described in observing.py.
// PEER_MODULES names the directory that holds node_modules.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.PEER_MODULES}/package.json`);
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { SSEClientTransport } = require("@modelcontextprotocol/sdk/client/sse.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = require("@modelcontextprotocol/sdk/types.js");

const STEP_MILLISECONDS = 10_000;
const LONG_TEXT = 1000;
const PROGRESS = "notifications/progress";

function shrink(value) {
  if (typeof value === "string" && value.length > LONG_TEXT)
    return { length: value.length, sha256: createHash("sha256").update(value).digest("hex") };
  if (Array.isArray(value)) return value.map(shrink);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shrink(item)]));
}

async function observe(act) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ timeout: STEP_MILLISECONDS / 1000 }), STEP_MILLISECONDS);
  });
  const done = act().then(
    (result) => ({ result: shrink(result ?? null) }),
    (error) => ({ error: { code: error.code ?? null, message: error.message } }),
  );
  const observation = await Promise.race([done, late]);
  clearTimeout(timer);
  return observation;
}

class Events {
  seen = [];
  wake = () => {};

  add(kind, params = {}) {
    const { _meta, progressToken, ...rest } = params;
    this.seen.push([kind, rest]);
    this.wake();
  }

  async since(start, watch) {
    for (;;) {
      const of = (kind) => this.seen.slice(start).filter(([seen]) => seen === kind).map(([, params]) => params);
      const found = Object.fromEntries(Object.keys(watch).map((kind) => [kind, of(kind)]));
      if (Object.entries(watch).every(([kind, count]) => found[kind].length >= count)) return found;
      await new Promise((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

class Trace {
  exchanges = new Set();
  requestIds = [];
  session = null;
  streamOpen = new Promise((resolve) => {
    this.opened = resolve;
  });

  // Stands in for fetch, notes the answers.
  fetch = async (url, init) => {
    const response = await fetch(url, init);
    const method = init?.method ?? "GET";
    const resumes = new Headers(init?.headers).has("last-event-id");
    const type = (response.headers.get("content-type") ?? "-").split(";")[0];
    this.exchanges.add(`${resumes ? `${method} to resume` : method} ${response.status} ${type}`);
    this.requestIds.push(response.headers.get("x-request-id"));
    this.session = response.headers.get("mcp-session-id") ?? this.session;
    if (method === "GET") this.opened();
    return response;
  };

  report() {
    return { exchanges: [...this.exchanges].sort(), session: this.session, requestIds: this.requestIds };
  }
}

function rawRequest(method, session, version) {
  const headers = { "MCP-Protocol-Version": version, Accept: "application/json, text/event-stream", "Mcp-Session-Id": session };
  if (method !== "POST") return { method, headers };
  headers["Content-Type"] = "application/json";
  return { method, headers, body: JSON.stringify({ jsonrpc: "2.0", id: 4711, method: "tools/list" }) };
}

async function rawStatus(target, method, session, version) {
  const request = rawRequest(method, session, version);
  const response = await fetch(target.url, { ...request, headers: { ...target.headers, ...request.headers } });
  await response.arrayBuffer();
  return response.status;
}

function answerQuestions(client, events) {
  client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => {
    events.add("sampling/createMessage", params);
    const content = { type: "text", text: "a grey stone 🌑" };
    return { role: "assistant", content, model: "moon-1", stopReason: "endTurn" };
  });
  client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => {
    events.add("elicitation/create", params);
    return { action: "accept", content: { name: "Ünal 月" } };
  });
  client.setRequestHandler(types.ListRootsRequestSchema, () => {
    events.add("roots/list");
    return { roots: [{ uri: "file:///moon/base", name: "base" }, { uri: "file:///m%C3%A5ne", name: "måne" }] };
  });
  client.fallbackNotificationHandler = async ({ method, params }) => events.add(method, params);
  // The SDK's own handler forgets a call at its answer, and with it the progress that came in the same piece.
  client.setNotificationHandler(types.ProgressNotificationSchema, ({ params: { progress, total, message } }) =>
    events.add(PROGRESS, { progress, total: total ?? null, message: message ?? null }),
  );
}

function makeTransport({ transport, url, headers, command }, fetch) {
  if (transport === "stdio") {
    const made = new StdioClientTransport({ command: command[0], args: command.slice(1), env: process.env });
    made.setProtocolVersion = (version) => Object.assign(made, { protocolVersion: version });
    return made;
  }
  const kind = transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new kind(new URL(url), { requestInit: { headers }, fetch });
}

class Conversation {
  constructor(target) {
    this.target = target;
    this.events = new Events();
    this.trace = new Trace();
    const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
    this.client = new Client({ name: "peer-client-ts", version: "1.0.0" }, { capabilities });
    answerQuestions(this.client, this.events);
    this.transport = makeTransport(target, this.trace.fetch);
    this.hasSession = target.transport === "streamable-http";
  }

  async connect() {
    await this.client.connect(this.transport);
    if (this.hasSession) await this.trace.streamOpen;
    return this;
  }

  async end() {
    if (this.hasSession) await this.transport.terminateSession();
    await this.client.close();
  }

  async step(step) {
    const start = step.op === "await" ? 0 : this.events.seen.length;
    const observation = await observe(async () => this[step.op](step));
    if (Object.keys(step.watch ?? {}).length) {
      const watched = await observe(() => this.events.since(start, step.watch));
      observation.events = watched.result ?? watched;
    }
    return observation;
  }

  tokens = 0;
  token = () => ({ progressToken: `token ${(this.tokens += 1)}` });

  await = () => null;
  ping = () => this.client.ping();
  level = () => this.client.setLoggingLevel("debug");
  tools = () => this.client.listTools();
  resources = () => this.client.listResources();
  templates = () => this.client.listResourceTemplates();
  read = ({ uri }) => this.client.readResource({ uri });
  prompts = () => this.client.listPrompts();
  prompt = (step) => this.client.getPrompt({ name: step.prompt, arguments: step.args });
  unknown = () => rawStatus(this.target, "POST", "no-such-session", this.transport.protocolVersion);

  call({ tool, args, watch = {} }) {
    const meta = PROGRESS in watch ? { _meta: this.token() } : {};
    return this.client.callTool({ name: tool, arguments: args, ...meta });
  }

  many = (step) => Promise.all(step.args.map((args) => this.call({ tool: step.tool, args })));

  complete({ prompt, argument, value }) {
    return this.client.complete({ ref: { type: "ref/prompt", name: prompt }, argument: { name: argument, value } });
  }

  async cancel({ tool, args }) {
    const start = this.events.seen.length;
    const stop = new AbortController();
    const params = { name: tool, arguments: args, _meta: this.token() };
    const waiting = this.client.callTool(params, undefined, { signal: stop.signal }).catch(() => null);
    const begun = await this.events.since(start, { [PROGRESS]: 1 });
    stop.abort();
    await waiting;
    return begun;
  }

  async changed({ tool }) {
    const start = this.events.seen.length;
    await this.call({ tool, args: {} });
    return this.events.since(start, { "notifications/tools/list_changed": 1 });
  }

  async updated({ uri, tool, args }) {
    await this.client.subscribeResource({ uri });
    const start = this.events.seen.length;
    await this.call({ tool, args });
    const updated = await this.events.since(start, { "notifications/resources/updated": 1 });
    await this.client.unsubscribeResource({ uri });
    return updated;
  }

  async lost(step) {
    const doomed = await new Conversation(this.target).connect();
    const { sessionId, protocolVersion } = doomed.transport;
    const deleted = await rawStatus(this.target, "DELETE", sessionId, protocolVersion);
    const after = await observe(() => doomed.call(step));
    await doomed.client.close();
    const fresh = await new Conversation(this.target).connect();
    const answer = await fresh.call(step);
    await fresh.end();
    return { deleted, after, fresh: answer };
  }
}

async function converse(target, plan) {
  const conversation = await new Conversation(target).connect();
  const { client, transport, trace } = conversation;
  const connected = {
    version: transport.protocolVersion ?? transport._protocolVersion ?? null,
    server: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions() ?? null,
  };
  const steps = {};
  for (const step of plan) steps[step.name] = await conversation.step(step);
  const session = transport.sessionId;
  await conversation.end();
  const ended = conversation.hasSession ? await rawStatus(target, "POST", session, connected.version) : null;
  return { connected, steps, http: trace.report(), ended };
}

const orders = JSON.parse(readFileSync(0, "utf8"));
const report = [];
for (const [index, target] of orders.targets.entries()) {
  report.push(converse(target, orders.plans[index]).catch((error) => ({ failed: error.stack })));
  if (!orders.together) await report.at(-1);
}
console.log(JSON.stringify(await Promise.all(report)));
