// Submits a task and watches every token of every subtask, with nothing but a NATS client:
//
//   npm install && NATS_URL=nats://127.0.0.1:4222 node watcher.mjs "Compare three lakes"
//
// Exit status: 0 with the answer, 1 when the task or a stream failed. docs/contract.md is the
// whole story; this file is its page on watching.

import { createHash } from "node:crypto";
import { connect } from "@nats-io/transport-node";

const goal = process.argv[2] ?? "Explain in three steps how tides work";
const tenant = process.env.ATLAS_TENANT ?? "default";
const TASK_ENDS = ["task.completed", "task.failed", "task.cancelled"];
const STREAM_ENDS = ["stream.completed", "stream.failed", "stream.cancelled"];

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });

/** Asks a door; an answer that is an error becomes an exception. */
async function ask(door, request) {
  const subject = `atlas.${tenant}.api.${door}`;
  const answer = (await nc.request(subject, JSON.stringify(request), { timeout: 10_000 })).json();
  const isError = answer.error && Object.keys(answer).length === 1;
  if (isError) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer;
}

/** Every stored event from a number on, page by page; none while a stream has not begun. */
const history = (door, of, count) => async (from) => {
  const events = [];
  for (let next = from; next; ) {
    const page = await ask(door, { ...of, [`from_${count}`]: next }).catch((error) => {
      if (error.code === "not_found") return { events: [] };
      throw error;
    });
    events.push(...page.events);
    next = page[`next_${count}`];
  }
  return events;
};

/** A value that is too large for a message, part by part. */
async function load(object) {
  const parts = [];
  for (let offset = 0; offset !== undefined; ) {
    const part = await ask("object.get", { object, offset });
    parts.push(Buffer.from(part.data, "base64"));
    offset = part.next_offset;
  }
  return JSON.parse(Buffer.concat(parts));
}

/**
 * Follows a log to its end: live from `subject`, and by `fetch` what came before or was missed.
 * `log.take` says what an event was to it: "taken", "ignored" (seen already, or outdated) or "gap".
 */
async function follow(subject, log, fetch) {
  const live = nc.subscribe(subject);
  await nc.flush(); // from here on nothing gets past us; now fetch what came before
  const catchUp = async () => {
    for (const event of await fetch(log.next)) log.take(event);
    if (log.end) live.unsubscribe();
  };
  await catchUp();
  const lookAgain = setInterval(() => catchUp().catch(() => {}), 2_000); // did we miss the end?
  for await (const message of live) {
    if (log.take(message.json()) === "gap") {
      await catchUp();
      const isLost = log.take(message.json()) === "gap";
      if (isLost) throw new Error(`${subject}: history lacks ${log.next} too`);
    }
    if (log.end) break;
  }
  clearInterval(lookAgain);
  return log.end;
}

/** A task's log: versions 1, 2, 3 … */
class TaskLog {
  next = 1;
  end = null;
  constructor(onEvent) { this.onEvent = onEvent; }

  take(event) {
    if (this.end || event.version < this.next) return "ignored";
    if (event.version > this.next) return "gap";
    this.next = event.version + 1;
    if (TASK_ENDS.includes(event.type)) this.end = event;
    this.onEvent(event);
    return "taken";
  }
}

/** A stream by the reading rule. `write` gets each new text, `restart` voids what it got before. */
class Reading {
  seq = 0;
  epoch = 0;
  epochs = []; // [first seq, epoch]: who wrote from where on
  pieces = [];
  end = null;
  constructor(write, restart) { Object.assign(this, { write, restart }); }

  get next() { return this.seq + 1; }
  get text() { return this.pieces.map((piece) => piece.text).join(""); }

  take(event) {
    if (this.end) return "ignored";
    if (event.type === "stream.adopted" && event.epoch > this.epoch) {
      const isWhole = this.seq >= event.from_seq;
      if (!isWhole || this.epochAt(event.from_seq) !== event.from_epoch) return "gap";
      this.epochs = this.epochs.filter(([first]) => first <= event.from_seq);
      this.keep(event.next === "restart" ? 0 : event.from_seq);
    } else {
      const isSeen = event.epoch === this.epoch && event.seq <= this.seq;
      if (isSeen || event.epoch < this.epoch) return "ignored";
      const isFirst = this.seq === 0 && event.seq === 1;
      if (!isFirst && (event.epoch > this.epoch || event.seq > this.next)) return "gap";
      if (event.type === "text.delta") this.add(event);
      if (event.type === "attempt.failed" && event.next === "restart") this.keep(0);
      if (STREAM_ENDS.includes(event.type)) this.end = event;
    }
    if (event.epoch !== this.epoch) this.epochs.push([event.seq, event.epoch]);
    [this.seq, this.epoch] = [event.seq, event.epoch];
    return "taken";
  }

  epochAt(seq) { return this.epochs.findLast(([first]) => first <= seq)?.[1] ?? 0; }

  add({ seq, text }) {
    this.pieces.push({ seq, text });
    this.write(text);
  }

  /** Forgets the text above `seq`; what was shown is void, so what is left is shown anew. */
  keep(seq) {
    const kept = this.pieces.filter((piece) => piece.seq <= seq);
    if (kept.length === this.pieces.length) return;
    this.pieces = kept;
    this.restart(this.text);
  }
}

/** Watches one subtask's stream to its end, and checks that the whole text was read. */
async function watchStream(streamId, name) {
  const write = (text) => print(name, text);
  const reading = new Reading(write, (text) => write(`\n(begins anew) ${text}`));
  const subject = `atlas.${tenant}.stream.${streamId}.chunk`;
  const fetch = history("stream.history", { stream_id: streamId }, "seq");
  const end = await follow(subject, reading, fetch);
  if (end?.type !== "stream.completed") return;
  const digest = createHash("sha256").update(reading.text, "utf8").digest("hex");
  if (digest !== end.text_sha256) throw new Error(`${subject}: this is not the text written`);
  checked += 1;
}

let speaker = "";
let checked = 0;

/** Prints text as it comes; says who speaks when that changes, as subtasks run side by side. */
function print(name, text) {
  if (name !== speaker) process.stdout.write(`\n[${name}] `);
  speaker = name;
  process.stdout.write(text);
}

const task = await ask("task.submit", { goal });
const streams = new Map();
const log = new TaskLog((event) => {
  if (event.type !== "subtask.started" || !event.stream_id || streams.has(event.stream_id)) return;
  streams.set(event.stream_id, watchStream(event.stream_id, event.subtask_id));
});
const fetch = history("task.history", { task_id: task.task_id }, "version");
const end = await follow(task.log_subject, log, fetch);
await Promise.all(streams.values());
const output = end.output_ref ? await load(end.output_ref) : end.output;
await nc.close();

console.log(`\n\n${end.type} after ${log.next - 1} events and ${checked} whole streams`);
if (end.type !== "task.completed") {
  console.error(end.error?.message ?? end.reason ?? "no answer");
  process.exit(1);
}
console.log(typeof output === "string" ? output : JSON.stringify(output, null, 2));
