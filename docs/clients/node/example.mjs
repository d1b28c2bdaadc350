/**
 * One payment from session to its end: `node example.mjs TARGET PAYMENT_REQUEST_ID`.
 *
 * Against `antom-payments dev`, TARGET is 127.0.0.1:50051. Pay as the buyer meanwhile; run it again
 * with the same id after it was interrupted: nothing is paid twice, and no event is missed.
 */

import { FileCursorStore } from "./cursor_store.mjs";
import { CallFailed } from "./failure.mjs";
import { Payments, PLAINTEXT } from "./payments.mjs";

const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]);
const [target, id] = process.argv.slice(2);
if (!target || !id) {
  console.error("usage: node example.mjs TARGET PAYMENT_REQUEST_ID");
  process.exit(2);
}

const payments = new Payments(target, { credentials: PLAINTEXT });
const amount = { currency_code: "SGD", minor_units: "4200" };
const request = {
  payment_request_id: id,
  payment_amount: amount,
  order: {
    reference_order_id: `order-of-${id}`,
    order_description: "Two tickets",
    order_amount: amount,
    buyer: { reference_buyer_id: "buyer-7" },
  },
  payment_method: { payment_method_type: "CARD" },
  payment_factor: { is_authorization: true },
  payment_redirect_url: "https://shop.example/return",
  metadata: { cart: "c-17" },
};

const created = await createSession();
console.log(`${id} is ${stateOf(created.payment)}`);
if (created.session) {
  // It goes whole to Antom's client SDK in the buyer's browser or app, and into no log.
  console.log(`${created.session.payment_session_data.length} characters for the front end`);
}
// A cursor is of one follower and one filter, here of one payment; start with its whole story.
const following = payments.follow(
  { earliest: {}, payment_request_ids: [id] },
  { cursorStore: new FileCursorStore(`${id}.cursor`) },
);
let state = stateOf(created.payment);
for await (const { events } of following.batches()) {
  for (const { type, payment } of events) {
    state = stateOf(payment);
    console.log(`${type.replace("PAYMENT_EVENT_TYPE_", "")}: ${state}`);
  }
  // Authorised is not paid: ship at SUCCEEDED.
  if (FINAL.has(state)) break;
}
const { payment } = await payments.getPayment({ payment_request_id: id });
const taken = BigInt(payment.captured_amount?.minor_units ?? 0);
console.log(`${id} is ${stateOf(payment)}, ${taken} minor units taken`);
payments.close();

/** Repeated with the same id until it is known what became of it. */
async function createSession() {
  for (;;) {
    try {
      return await payments.createSession(request);
    } catch (error) {
      if (!(error instanceof CallFailed && error.mayWorkLater)) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 1000));
    }
  }
}

function stateOf(payment) {
  return payment.state.replace("PAYMENT_STATE_", "");
}
