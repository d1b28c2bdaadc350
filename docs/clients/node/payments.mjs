/** A connection to the service, and its calls. Messages are plain objects with the contract's names. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

import { failureOf } from "./failure.mjs";
import { Following } from "./following.mjs";
import { checked } from "./request.mjs";

// Copied elsewhere, these two are the only lines to change.
const PROTO_FOLDER = fileURLToPath(new URL("../../../proto", import.meta.url));
const SERVICE_CONFIG = new URL(
  "../../../service/antom_payments/client/service_config.json",
  import.meta.url,
);

const PROTO = "antom_payments/v1/payment_service.proto";
const SERVICE = "antom_payments.v1.PaymentService";

// int64 arrives as text: a JavaScript number holds only 53 bits of it. `BigInt(text)` reckons.
const definition = protoLoader.loadSync(PROTO, {
  includeDirs: [PROTO_FOLDER],
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const PaymentService = grpc.loadPackageDefinition(definition).antom_payments.v1.PaymentService;

const root = new protobuf.Root();
root.resolvePath = (origin, path) =>
  path.startsWith("google/") ? path : `${PROTO_FOLDER}/${path}`;
root.loadSync(PROTO, { keepCase: true }).resolveAll();

/** Pass as `credentials` to connect without TLS: for trusted networks. */
export const PLAINTEXT = grpc.credentials.createInsecure();

/** TLS with authorities of your own, and for mTLS the client's key and certificates; as PEM. */
export function tls(authorities, clientKey, clientCertificates) {
  return grpc.credentials.createSsl(authorities, clientKey, clientCertificates);
}

const OPTIONS = {
  "grpc.service_config": readFileSync(SERVICE_CONFIG, "utf8"),
  // The server allows a ping each 20 seconds.
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  // The default is two minutes, which a follower would spend deaf after a short outage.
  "grpc.max_reconnect_backoff_ms": 3_000,
  // Otherwise clients with equal options share one connection and its limit of streams.
  "grpc.use_local_subchannel_pool": 1,
};

/**
 * The calls of a payments service. They throw a `CallFailed`, and may all be repeated.
 *
 * `target` is a gRPC name such as `dns:///payments:50051`, balanced over all its addresses.
 * Without `credentials` it is TLS with Node's authorities. `options` are grpc-js' channel options.
 */
export class Payments {
  #client;

  constructor(target, { credentials = tls(), options = {} } = {}) {
    this.#client = new PaymentService(target, credentials, { ...OPTIONS, ...options });
  }

  /** Create a payment and its session at Antom. Safe to repeat with the same payment_request_id. */
  createSession(request, how) {
    return this.#unary("CreateSession", request, how);
  }

  /** Read one payment: `{payment_request_id}`, `{payment_id}` or `{reference_order_id}`. */
  getPayment(request, how) {
    return this.#unary("GetPayment", request, how);
  }

  /** One page of payments; the next one by `page_token` of its `next_page_token`. */
  listPayments(request, how) {
    return this.#unary("ListPayments", request, how);
  }

  /** One page of the log; a page may be empty, and only an empty `next_page_token` is its end. */
  listPaymentEvents(request, how) {
    return this.#unary("ListPaymentEvents", request, how);
  }

  /** Pass on an event of Antom's client SDK; the answer's `next_step` is for the front end. */
  reportSdkEvent(request, how) {
    return this.#unary("ReportSdkEvent", request, how);
  }

  /**
   * Follow payment events from `{earliest: {}}`, `{latest: {}}`, `{after_cursor}` or another start
   * of the contract, with filters beside it. `how`: `cursorStore` (its cursor goes before the
   * start), `onExpired` (called when events were lost to retention: what began with a snapshot
   * takes a new one after it, anything else catches up with getPayment), `onResume`, `backoff`,
   * `silenceMs`, `signal`.
   */
  follow(request, how = {}) {
    const message = checkedRequest("StreamPaymentEvents", request);
    const starts = requestType("StreamPaymentEvents").oneofs.start.oneof;
    return new Following((asked) => this.#client.StreamPaymentEvents(asked), starts, message, how);
  }

  close() {
    this.#client.close();
  }

  /**
   * `how`: `timeoutMs`, of at most the service config's 30 seconds; `metadata` as an object;
   * `waitForReady`, whether to wait for a connection as long as that. True unless said otherwise:
   * grpc-js takes it from the call alone, and not from the service config.
   */
  async #unary(method, request, { timeoutMs, metadata = {}, waitForReady = true } = {}) {
    const message = checkedRequest(method, request);
    const sent = new grpc.Metadata({ waitForReady });
    for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
    const how = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    try {
      return await new Promise((resolve, reject) => {
        this.#client[method](message, sent, how, (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
      });
    } catch (error) {
      throw failureOf(error);
    }
  }
}

function checkedRequest(method, request) {
  return checked(requestType(method), request);
}

function requestType(method) {
  return root.lookupService(SERVICE).methods[method].resolvedRequestType;
}
