/** What calls fail with: the code of the status, and its details. */

import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

const DOMAIN = "antom-payments";
const DETAILS_KEY = "grpc-status-details-bin";

// google/rpc/status.proto and error_details.proto, as far as this service uses them: the package
// that ships them all is 88 MB, and their numbers never change.
const { root } = protobuf.parse(
  `syntax = "proto3";
  package google.rpc;
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Any { string type_url = 1; bytes value = 2; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message FieldViolation { string field = 1; string description = 2; }`,
  { keepCase: true },
);
const Status = root.lookupType("google.rpc.Status");

/** Codes after which the same call, with the same id, may work. */
const PASSING = new Set(["ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]);

/** A call ended with a status other than OK. Decide by `code` and `reason`, never by the message. */
export class CallFailed extends Error {
  /** @param {string} code name of the gRPC code, as in UNAVAILABLE */
  constructor(code, message, details = {}) {
    super([code, details.reason, message].filter(Boolean).join(": "));
    this.name = "CallFailed";
    this.code = code;
    /** Name of an ErrorReason without its prefix; empty when the service did not speak. */
    this.reason = details.reason ?? "";
    /** Variables of the message, for machines. */
    this.metadata = details.metadata ?? {};
    /** Wrong fields, each `{field, description}`. */
    this.violations = details.violations ?? [];
    /** Least wait in milliseconds before the same call helps; undefined when not said. */
    this.retryAfterMs = details.retryAfterMs;
  }

  /** Whether the same call may work later. What became of this one may be unknown. */
  get mayWorkLater() {
    return PASSING.has(this.code);
  }
}

/** The failure for what grpc-js threw; anything else is not a status, and thrown on. */
export function failureOf(error) {
  if (!(error?.metadata instanceof grpc.Metadata) || !(error.code in grpc.status)) throw error;
  return new CallFailed(grpc.status[error.code], error.details, detailsOf(error.metadata));
}

/** The details of a status. Garbled ones count as none. */
function detailsOf(trailers) {
  const [raw] = trailers.get(DETAILS_KEY);
  if (!raw) return {};
  const found = {};
  try {
    for (const { type_url: url, value } of Status.decode(raw).details) {
      const type = url.slice(url.lastIndexOf("/") + 1);
      found[type] = root.lookup(type) && root.lookupType(type).decode(value);
    }
  } catch {
    return {};
  }
  const info = found["google.rpc.ErrorInfo"];
  // A proxy may add an ErrorInfo of its own: its reasons are not ours.
  const ours = info?.domain === DOMAIN;
  return {
    reason: ours ? info.reason : "",
    metadata: ours ? { ...info.metadata } : {},
    violations: (found["google.rpc.BadRequest"]?.field_violations ?? []).map((one) => ({
      field: one.field,
      description: one.description,
    })),
    retryAfterMs: milliseconds(found["google.rpc.RetryInfo"]?.retry_delay),
  };
}

function milliseconds(duration) {
  return duration && Math.max(0, Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}
