/**
 * The example client at a test's orders: one JSON object a line in, one or more out, by `id`.
 *
 * `{id, target, authority?, call, request, how?}` is a call on a connection of its own, with as
 * many equal ones `before` it. `follow` in place of `call` opens a stream, until
 * `{id, leave: true}`; `each` takes its events one by one; `hold` makes its consumer wait, after
 * the first batch, for `{id, go: true}`. `{"$date": text}` anywhere in it is a Date.
 */

import { createInterface } from "node:readline";

import { FileCursorStore } from "../../docs/clients/node/cursor_store.mjs";
import { CallFailed } from "../../docs/clients/node/failure.mjs";
import { Payments, PLAINTEXT, tls } from "../../docs/clients/node/payments.mjs";

const held = new Map();
const left = new Map();

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line, (_, value) => (value?.$date ? new Date(value.$date) : value));
  if (order.go) held.get(order.id)();
  else if (order.leave) left.get(order.id).abort();
  else obey(order).then((told) => say(order.id, told));
}
// Streams that are still open would keep the process.
process.exit(0);

function say(id, told) {
  console.log(JSON.stringify({ id, ...told }));
}

async function obey(order) {
  const payments = connected(order);
  try {
    if (order.follow) return await follow(payments, order);
    for (let more = order.before ?? 0; more > 0; more -= 1) {
      await payments[order.call](order.request, order.how);
    }
    return { answer: await payments[order.call](order.request, order.how) };
  } catch (error) {
    return { failure: plain(error) };
  } finally {
    payments.close();
  }
}

function connected({ target, authority }) {
  const credentials = authority ? tls(Buffer.from(authority)) : PLAINTEXT;
  const options = { "grpc.initial_reconnect_backoff_ms": 20, "grpc.max_reconnect_backoff_ms": 50 };
  return new Payments(target, { credentials, options });
}

async function follow(payments, order) {
  const { id, request, how: more, times, catchUp, cursorFile, hold, each } = order;
  left.set(id, new AbortController());
  const how = {
    signal: left.get(id).signal,
    backoff: { firstMs: 10, longestMs: 50 },
    ...more,
    onResume: (failure, waitMs) => say(id, { resuming: { ...plain(failure), waitMs } }),
  };
  if (cursorFile) how.cursorStore = new FileCursorStore(cursorFile);
  if (catchUp) how.onExpired = async (failure) => say(id, { expired: plain(failure) });
  const following = payments.follow(request, how);
  if (each) {
    for await (const event of following) say(id, { batch: { events: [event] } });
    return { ended: true };
  }
  // Whoever left in the middle of a batch has not processed it, and may start anew.
  for (let more = times ?? 1; more > 1; more -= 1) for await (const _ of following.batches()) break;
  for await (const batch of following.batches()) {
    say(id, { batch });
    if (hold && !held.has(id)) await new Promise((go) => held.set(id, go));
  }
  return { ended: true };
}

function plain(error) {
  if (!(error instanceof CallFailed)) return { name: error.name, message: error.message };
  const { code, reason, metadata, violations, retryAfterMs, mayWorkLater } = error;
  return { code, reason, metadata, violations, retryAfterMs, mayWorkLater };
}
