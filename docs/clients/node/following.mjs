/** Following payment events for ever: the one loop that resumes. */

import { setTimeout as sleep } from "node:timers/promises";

import { CallFailed, failureOf } from "./failure.mjs";

/** Event ids kept to recognise repetitions; more than a server resends after a resume. */
const REMEMBERED_EVENTS = 10_000;

// What a cut, a proxy, a full or a stopping server look like. The other codes are answers: asking
// again would not change them.
const PASSING = new Set([
  "OK",
  "ABORTED",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "INTERNAL",
  "RESOURCE_EXHAUSTED",
  "UNAVAILABLE",
  "UNKNOWN",
]);
const HAS_PAYMENTS = "a snapshot has payments beside events: follow it by batches()";
const PLANNED = new Set(["STREAM_LIFETIME_REACHED", "SERVER_DRAINING"]);

/** Full jitter: the n-th wait is anything up to `firstMs * 2 ** n`, and never less than asked for. */
export const BACKOFF = Object.freeze({ firstMs: 500, longestMs: 30_000, healthyMs: 60_000 });

/**
 * Payment events as an asynchronous iterable, resumed by itself. Made by `Payments.follow`.
 *
 * Each iteration starts anew, at the stored cursor or at the start that was asked for. It never
 * ends by itself, unless `signal` says so. It throws a CallFailed for what waiting does not change:
 * CURSOR_INVALID, LOG_REWOUND, CURSOR_EXPIRED without `onExpired`, a wrong filter.
 */
export class Following {
  #place;
  #ofSnapshot;

  /** `starts` are the names of the contract for where a stream starts. */
  constructor(openStream, starts, request, options) {
    this.#place = () => new Place(openStream, starts, request, options);
    this.#ofSnapshot = Boolean(request.snapshot);
  }

  /**
   * Events one by one; a batch's cursor is stored when the loop comes back for the next batch.
   * Throws a TypeError for a snapshot, whose payments would be lost.
   */
  async *[Symbol.asyncIterator]() {
    if (this.#ofSnapshot) throw new TypeError(HAS_PAYMENTS);
    for await (const batch of this.batches()) {
      // A stored cursor may lie within a snapshot.
      if (batch.payments.length > 0) throw new TypeError(HAS_PAYMENTS);
      yield* batch.events;
    }
  }

  /**
   * The same events in the messages of the stream, which have a `cursor`, and `caughtUp` where
   * history ends; `events` is empty when there is only progress. A snapshot's messages have
   * `payments`, of which one that changed meanwhile comes again: keep the higher `version`. Where
   * all were told, `marker` is `snapshot_end`.
   *
   * Write a batch's effects and its cursor in one transaction of your own database, start with
   * `after_cursor` of what is stored there, and every event takes effect exactly once.
   */
  batches() {
    return this.#place().batches();
  }
}

/** One iteration's place in the log, over however many streams it takes. */
class Place {
  #openStream;
  #starts;
  #request;
  #options;
  #ofSnapshot;
  #attempt = 0;
  #healthySince;
  #seen = new Set();

  constructor(openStream, starts, request, options) {
    this.#openStream = openStream;
    this.#starts = starts;
    this.#request = request;
    this.#ofSnapshot = Boolean(request.snapshot);
    this.#options = { silenceMs: 60_000, onResume() {}, ...options };
    this.#options.backoff = { ...BACKOFF, ...options.backoff };
  }

  async *batches() {
    const { cursorStore, signal } = this.#options;
    const stored = await cursorStore?.load();
    if (stored) this.#resumeAfter(stored);
    while (!signal?.aborted) {
      let failure = new CallFailed("OK", "the stream ended");
      try {
        for await (const response of this.#responses()) {
          yield this.#batch(response);
          // Only now was the batch processed: a consumer that failed did not come back.
          this.#resumeAfter(response.cursor);
          await cursorStore?.save(response.cursor);
        }
      } catch (error) {
        failure = failureOf(error);
      }
      if (!signal?.aborted) await this.#waitAfter(failure);
    }
  }

  /** The messages of one stream. One that says nothing for `silenceMs` is taken for dead. */
  async *#responses() {
    const { signal, silenceMs } = this.#options;
    const call = this.#openStream(this.#request);
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel);
    let silence = setTimeout(cancel, silenceMs);
    try {
      for await (const response of call) {
        clearTimeout(silence);
        this.#healthySince ??= performance.now();
        yield response;
        silence = setTimeout(cancel, silenceMs);
      }
    } finally {
      clearTimeout(silence);
      signal?.removeEventListener("abort", cancel);
      // Leaving the loop ends the iterator, not the call: the server would go on sending.
      cancel();
    }
  }

  #batch(response) {
    const events = response.events.filter((event) => this.#isNew(event.event_id));
    return { ...response, events, caughtUp: response.marker === "caught_up" };
  }

  #isNew(eventId) {
    if (this.#seen.has(eventId)) return false;
    this.#seen.add(eventId);
    // A Set keeps the order in which it was filled.
    if (this.#seen.size > REMEMBERED_EVENTS) this.#seen.delete(this.#seen.values().next().value);
    return true;
  }

  #resumeAfter(cursor) {
    this.#startAt({ after_cursor: cursor });
  }

  #startAt(start) {
    const asked = Object.entries(this.#request);
    const filters = Object.fromEntries(asked.filter(([name]) => !this.#starts.includes(name)));
    this.#request = { ...filters, ...start };
  }

  async #waitAfter(failure) {
    const { backoff, onExpired, onResume, signal } = this.#options;
    const oldest = failure.metadata.oldest_cursor;
    if (failure.reason === "CURSOR_EXPIRED" && oldest && onExpired) {
      await onExpired(failure);
      // It tells what became of every payment, which the oldest event kept does not.
      if (this.#ofSnapshot) this.#startAt({ snapshot: {} });
      else this.#resumeAfter(oldest);
    } else if (!PASSING.has(failure.code)) {
      throw failure;
    }
    const wasHealthy = performance.now() - this.#healthySince >= backoff.healthyMs;
    this.#healthySince = undefined;
    // Servers that end streams on purpose say when to come back: a rolling restart is no reason
    // to wait longer each time.
    if (wasHealthy || PLANNED.has(failure.reason)) this.#attempt = 0;
    const ceiling = Math.min(backoff.longestMs, backoff.firstMs * 2 ** Math.min(this.#attempt, 16));
    this.#attempt += 1;
    const wait = Math.max(failure.retryAfterMs ?? 0, Math.random() * ceiling);
    onResume(failure, wait);
    await sleep(wait, undefined, { signal }).catch(() => {});
  }
}
