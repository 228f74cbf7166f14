// Loaded with `node --import` before an npm server: prints the port that it got, so that it may ask for port 0.
import { Server } from "node:net";

const path = process.argv.includes("sse") ? "/sse" : "/mcp";
const listen = Server.prototype.listen;
Server.prototype.listen = function (...args) {
  this.once("listening", () => console.log(`Listening on http://127.0.0.1:${this.address().port}${path}`));
  return listen.apply(this, args);
};
