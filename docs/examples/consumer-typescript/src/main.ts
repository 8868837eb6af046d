// Prints each result of vpcep-approver on a line. types.gen.ts is made from the JSON
// Schema by npm run generate.
import {AckPolicy, jetstream, jetstreamManager} from "@nats-io/jetstream";
import {connect} from "@nats-io/transport-node";

import type {RequestEnded} from "./types.gen.js";

const nc = await connect({servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222", name: "consumer-typescript"});
const durable = process.env.NATS_DURABLE ?? "consumer-typescript";
const stream = "VPCEP_RESULTS";

const manager = await jetstreamManager(nc);
await manager.consumers.add(stream, {durable_name: durable, ack_policy: AckPolicy.Explicit, filter_subject: "vpcep.results.>"});
const consumer = await jetstream(nc).consumers.get(stream, durable);
const messages = await consumer.consume();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => messages.stop());
}

const seen = new Set<string>(); // a real consumer keeps the ids where it keeps what it does with results
for await (const message of messages) {
  try {
    const event = message.json<RequestEnded>();
    if (!seen.has(event.id)) {
      console.log(line(event));
      seen.add(event.id);
    }
    message.ack();
  } catch (err) {
    // It stays on the server and comes again: this program may be too old for it.
    console.error(`${message.subject}: ${err}`);
    message.nak(60_000);
  }
}
await nc.drain();

// line is what is printed of an event. A misspelt member or outcome does not compile.
function line({type, data}: RequestEnded): string {
  const what = data.request.endpoint_id ? `endpoint ${data.request.endpoint_id}` : "an endpoint";
  const why = data.decision.reasons[0]?.text ?? "no reason";
  return `${type}: ${data.request.target}, ${what}: ${why}`;
}
