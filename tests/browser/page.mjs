// The page of the browser tests: an MCP client on the official TypeScript SDK. `talk` takes orders, does one step after
// the other, and writes what came of each into the page as JSON; a step that fails does not end the conversation.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ProgressNotificationSchema, ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const STEP_MILLISECONDS = 8_000;
const READABLE = ["mcp-session-id", "x-request-id", "www-authenticate"];

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("too late")), STEP_MILLISECONDS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Counts what came, and lets others wait for more of it.
class Counter {
  count = 0;
  wake = [];

  add() {
    this.count += 1;
    for (const wake of this.wake.splice(0)) wake();
  }

  async reach(count) {
    while (this.count < count) await new Promise((resolve) => this.wake.push(resolve));
    return this.count;
  }
}

class Conversation {
  exchanges = [];
  changes = new Counter();
  streams = new Counter();
  progress = [];

  constructor(orders) {
    this.orders = orders;
    this.client = new Client({ name: "page", version: "1" });
    this.client.setNotificationHandler(ToolListChangedNotificationSchema, () => this.changes.add());
    // The SDK's own handler forgets a call at its answer, and with it the progress that came in the same piece.
    this.client.setNotificationHandler(ProgressNotificationSchema, ({ params }) => this.progress.push(params.message));
    const kind = orders.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
    const requestInit = { headers: orders.headers ?? {}, credentials: orders.credentials ?? "same-origin" };
    this.transport = new kind(new URL(orders.url), { requestInit, fetch: (url, init) => this.fetch(url, init) });
  }

  // Stands in for fetch and notes what the page can see of every exchange.
  async fetch(url, init) {
    const method = init?.method ?? "GET";
    const resumes = new Headers(init?.headers).has("last-event-id");
    const noted = { method: resumes ? `${method} to resume` : method };
    this.exchanges.push(noted);
    try {
      const response = await fetch(url, { ...init, credentials: this.orders.credentials ?? "same-origin" });
      noted.status = response.status;
      noted.headers = READABLE.filter((name) => response.headers.has(name));
      if (method === "GET" && response.ok) this.streams.add();
      if (!response.ok) noted.text = await response.clone().text();
      return response;
    } catch (error) {
      noted.error = `${error.name}: ${error.message}`;
      throw error;
    }
  }

  steps = {
    connect: async () => {
      await this.client.connect(this.transport);
      return this.client.getServerVersion().name;
    },
    session: async () => typeof this.transport.sessionId,
    tools: async () => (await this.client.listTools()).tools.map((tool) => tool.name).sort(),
    echo: () => this.call("echo", { text: "hello Луна" }),
    seen: async () => (await this.client.callTool({ name: "seen", arguments: {} })).structuredContent.result,
    progress: async () => [await this.call("count", { steps: 3 }), this.progress.splice(0)],
    // The server says that its list of tools has changed: on the GET stream, because it belongs to no request.
    notified: async () => {
      await this.streams.reach(1);
      const before = this.changes.count;
      await this.call("announce", {});
      await this.changes.reach(before + 1);
      await this.call("withdraw", {});
      return this.changes.reach(before + 2);
    },
    // The server hangs up in the middle of the answer; the SDK asks for the rest with Last-Event-ID.
    resumed: () => this.call("interrupted", {}),
    end: () => this.transport.terminateSession(),
    close: () => this.client.close(),
    // Without the SDK: what any page can try.
    fetch: async () => {
      const { url, init } = this.orders.fetch;
      const response = await this.fetch(url, init);
      return { status: response.status, type: response.type, text: await response.text() };
    },
  };

  async call(name, args) {
    const result = await this.client.request(
      { method: "tools/call", params: { name, arguments: args, _meta: { progressToken: name } } },
      CallToolResultSchema,
    );
    return result.content[0].text;
  }

  async run() {
    const done = {};
    for (const name of this.orders.steps) {
      try {
        done[name] = { result: (await inTime(this.steps[name]())) ?? null };
      } catch (error) {
        done[name] = { error: `${error.name}: ${error.message}` };
      }
      show({ origin: globalThis.origin, orders: this.orders, done, exchanges: this.exchanges });
    }
    await this.client.close().catch(() => {});
  }
}

// One step and one exchange a line, so that a picture of the page tells the whole story.
function show(report) {
  const pre = document.createElement("pre");
  pre.id = "report";
  pre.style = "white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px";
  const done = Object.entries(report.done).map(([name, outcome]) => `"${name}": ${JSON.stringify(outcome)}`);
  const exchanges = report.exchanges.map((exchange) => JSON.stringify(exchange));
  const orders = JSON.stringify({ origin: report.origin, ...report.orders });
  pre.textContent = `{"orders": ${orders},\n\n"done": {\n${done.join(",\n")}},\n\n"exchanges": [\n${exchanges.join(",\n")}]}`;
  document.body.replaceChildren(pre);
}

globalThis.talk = (orders) => {
  document.body.removeAttribute("data-done");
  new Conversation(orders).run().finally(() => document.body.setAttribute("data-done", "yes"));
};
