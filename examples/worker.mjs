// A worker in JavaScript: it writes headlines, by a model, with nothing but a NATS client.
//
//   npm install && NATS_URL=nats://127.0.0.1:4222 node worker.mjs
//
// docs/contract.md, "Writing a worker", is the whole story; the numbers below are its steps. Kill
// it at any time: the work it had is delivered again, and its model is not paid twice.

import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, headers } from "@nats-io/transport-node";

const CAPABILITY = "headline";
const WORKER = `${hostname().split(".")[0]}-${process.pid}-js`;
const LONGEST_MS = 300_000; // for one answer of a model
const WRONG_LAST_SEQUENCE = 10_071;
const TASK_ENDS = ["task.completed", "task.failed", "task.cancelled"];

/** What this worker can do: gives text or JSON, or throws. `generate` asks a model. */
async function headline(subtask, generate) {
  const [name, input] = Object.entries(subtask.inputs).find(([key]) => key !== "task") ?? [];
  if (name === undefined) throw new Error("there is nothing to write a headline of: depend on it");
  if (input.output_ref) throw new Error(`${name} is in the object store, too long for a headline`);
  const text = typeof input === "string" ? input : JSON.stringify(input);
  const answer = await generate(`${subtask.instruction}\n\n${text}`);
  return { output: { headline: answer.content, of: name }, usage: answer.usage, cost: answer.cost };
}

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
let isDraining = false;
for (const sign of ["SIGTERM", "SIGINT"]) process.once(sign, () => { isDraining = true; });

/** Asks, and gives the answer's JSON; one that is an error becomes an exception with its fields. */
async function ask(subject, request, { timeout = 5_000, ...options } = {}) {
  const reply = await nc.request(subject, JSON.stringify(request), { timeout, ...options });
  const answer = reply.json();
  const { error } = answer;
  if (error) throw Object.assign(new Error(error.message ?? error.description), error);
  return answer;
}

/** Stores a message, and waits until it is stored; `expectedLast` is what must be there before. */
async function store(subject, message, expectedLast) {
  const head = headers();
  head.set("Atlas-Version", "1");
  if (expectedLast !== undefined) {
    head.set("Nats-Expected-Last-Subject-Sequence", String(expectedLast));
  }
  await ask(subject, message, { headers: head, timeout: 10_000 });
}

/** The last message of a subject, or null. */
async function last(stream, subject) {
  const request = JSON.stringify({ last_by_subj: subject });
  const found = await nc.request(`$JS.API.DIRECT.GET.${stream}`, request, { timeout: 5_000 });
  return found.headers?.code === 404 ? null : found.json();
}

/** 1. The durable consumer of our capability and a priority, made where it is missing. */
async function consumer(priority) {
  const name = `workers-${CAPABILITY}-${priority}`;
  const api = "$JS.API.CONSUMER";
  const found = await ask(`${api}.INFO.ATLAS_WORK.${name}`, {}).catch(async (error) => {
    if (error.code !== 404) throw error;
    const filter_subject = `atlas.*.work.${CAPABILITY}.${priority}`;
    const config = { durable_name: name, filter_subject, ack_policy: "explicit", max_deliver: -1 };
    const wanted = { stream_name: "ATLAS_WORK", config: { ...config, ack_wait: 5_000_000_000 } };
    return ask(`${api}.CREATE.ATLAS_WORK.${name}.${filter_subject}`, wanted);
  });
  return { next: `${api}.MSG.NEXT.ATLAS_WORK.${name}`, ackWaitMs: found.config.ack_wait / 1e6 };
}

/** The next message, or null when none came for a while; it comes under its own subject, not ours. */
async function take(next) {
  const wanted = JSON.stringify({ batch: 1, expires: 1_000_000_000 });
  const message = await nc.request(next, wanted, { timeout: 3_000, noMux: true });
  return message.headers?.code >= 400 ? null : message;
}

/** Whether a task's event says that nobody waits for this attempt any more. */
function ends(event, { subtask_id, attempt }) {
  if (TASK_ENDS.includes(event.type)) return true;
  if (event.subtask_id !== subtask_id) return false;
  if (["subtask.succeeded", "subtask.cancelled"].includes(event.type)) return true;
  return event.type === "subtask.failed" && event.attempt >= attempt;
}

/** Does one subtask, from its message to the acknowledgement. */
async function work(message, ackWaitMs) {
  const tenant = message.subject.split(".")[1];
  const subtask = message.json();
  const { task_id, subtask_id, attempt, stream_id } = subtask;
  const ours = { task_id, subtask_id, attempt, worker: WORKER };
  const report = `atlas.${tenant}.report.${task_id}.${subtask_id}.${attempt}`;
  const result = `atlas.${tenant}.result.${task_id}.${subtask_id}`;

  // 2. Has somebody done it, or does nobody want it? Listen first, so that no end gets past us.
  const log = nc.subscribe(`atlas.${tenant}.task.${task_id}.log`);
  const pointless = (async () => {
    for await (const event of log) if (ends(event.json(), subtask)) return null;
    return new Promise(() => {}); // unsubscribed: the work is done
  })();
  // 4. Keep the message ours: more often than the ack wait.
  const beat = setInterval(() => message.respond("+WPI"), ackWaitMs / 3);
  try {
    const event = await last("ATLAS_TASKS", `atlas.${tenant}.task.${task_id}.write`);
    const isEnded = event !== null && ends(event, subtask);
    if (!isEnded && (await last("ATLAS_REPORTS", result)) === null) {
      // 3. Tell that we have begun, and ask under the stream that the subtask brings.
      await store(report, { ...ours, type: "started", stream_ids: [stream_id] });
      const generate = (prompt) => {
        const head = headers();
        if (subtask.task_budget) {
          head.set("Atlas-Task", task_id);
          head.set("Atlas-Task-Budget", JSON.stringify(subtask.task_budget));
        }
        const { budget, requirements } = subtask;
        const messages = [{ role: "user", content: prompt }];
        const request = { stream_id, messages, budget, requirements };
        return ask(`atlas.${tenant}.api.generate`, request, { headers: head, timeout: LONGEST_MS });
      };
      const telling = setInterval(() => nc.publish(report, JSON.stringify(
        { ...ours, type: "progress", stream_ids: [stream_id] })), 5_000);
      try {
        const done = await Promise.race([headline(subtask, generate), pointless]);
        // 5. The first result wins; a refusal means that it was there already.
        if (done !== null) await store(result, { ...ours, ...done }, 0);
      } catch (error) {
        if (error.err_code !== WRONG_LAST_SEQUENCE) await store(report, failure(ours, error));
      } finally {
        clearInterval(telling);
      }
    }
    message.respond("+ACK"); // 6. Only now.
  } catch (error) {
    console.error(`${subtask_id} is handed back: ${error.message}`);
    message.respond('-NAK {"delay": 1000000000}');
  } finally {
    clearInterval(beat);
    log.unsubscribe();
  }
}

/** The report of a failure: what Atlas answered, or what our code threw. */
function failure(ours, error) {
  const { category = "internal", retryable = true, retry_after_ms } = error;
  const code = error.category ? error.code : "handler_failed";
  const message = `${error.message}`.slice(0, 1_000);
  return { ...ours, type: "failed", error: { code, category, message, retryable, retry_after_ms } };
}

const CAN = {
  worker: WORKER,
  capabilities: [CAPABILITY],
  offers: { [CAPABILITY]: { description: "A headline for the text that it depends on." } },
};

/** Says that we are there and what we can do, so that models may plan with it. */
function announce(type, more) {
  const data = { instance: WORKER, ...CAN, ...more };
  const event = { type, source: "agent_worker", at_ms: Date.now(), data };
  nc.publish(`atlas.default.event.agent_worker.${type}`, JSON.stringify(event));
}

const queues = await Promise.all(["high", "normal", "low"].map(consumer));
announce("worker.registered");
const announcing = setInterval(announce, 1_000, "service.health", { state: "ready" });
console.log(`ready ${WORKER}`);
await Promise.all(queues.map(async ({ next, ackWaitMs }) => {
  while (!isDraining) {
    const message = await take(next).catch(async (error) => {
      console.error(`no work taken: ${error.message}`);
      await sleep(1_000);
    });
    if (message) await work(message, ackWaitMs);
  }
}));
clearInterval(announcing);
announce("worker.gone", { reason: "stopped" });
announce("service.health", { state: "stopped" });
await nc.drain();
