// Chat as the OpenAI SDK for Node uses it.

import assert from "node:assert/strict";
import net from "node:net";
import { after, afterEach, beforeEach, test } from "node:test";

import OpenAI from "openai";

const magpie = process.env.CLIENTS_MAGPIE_URL;
const upstream = process.env.CLIENTS_UPSTREAM_URL.replace(/\/v1$/, "");
const TEXT = "This is the reply of a scripted upstream.";
const messages = [{ role: "user", content: "hello" }];
const client = new OpenAI({
  baseURL: `${magpie}/v1`,
  apiKey: "sk-client-key",
  maxRetries: 0,
  timeout: 20_000,
});
const limit = { timeout: 30_000 };

const received = async () => (await fetch(`${upstream}/__record`)).json();
const last = async () => (await received()).at(-1);
const chat = (model, more = {}, options = {}) =>
  client.chat.completions.create({ model, messages, ...more }, options);

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

async function until(condition, milliseconds) {
  const deadline = performance.now() + milliseconds;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `waited ${milliseconds} ms in vain`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function forget() {
  await fetch(`${upstream}/__record`, { method: "DELETE" });
  await fetch(`${upstream}/__script`, { method: "DELETE" });
}

beforeEach(forget);

afterEach(async () => {
  for (const request of await received()) {
    assert.ok(!JSON.stringify(request).includes("sk-client-key"), "the client's key got out");
    const key = request.headers.find(([name]) => name.toLowerCase() === "authorization");
    assert.equal(key?.[1], "Bearer sk-real-secret");
  }
});

after(forget);

test("chat", limit, async () => {
  const reply = await chat("mock/ok", { temperature: 0, seed: 7 });
  assert.equal(reply.choices[0].message.content, TEXT);
  assert.equal(reply.usage.total_tokens, 19);
  assert.match(reply._request_id, /^req_/);
  assert.deepEqual(JSON.parse((await last()).body), {
    model: "ok",
    messages,
    temperature: 0,
    seed: 7,
  });
});

test("a stream, chunk by chunk", limit, async () => {
  const times = [];
  const chunks = [];
  for await (const chunk of await chat("mock/events:6:100", { stream: true })) {
    chunks.push(chunk);
    times.push(performance.now());
  }
  assert.equal(text(chunks), "w1 w2 w3 w4 w5 w6 ");
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  assert.ok(times.at(-1) - times[0] > 400, "not all at once");
  assert.ok(chunks.every((chunk) => !chunk.usage));
});

test("usage in a stream, when asked for", limit, async () => {
  const stream = await chat("mock/ok", { stream: true, stream_options: { include_usage: true } });
  const chunk = (await collect(stream)).at(-1);
  assert.deepEqual(chunk.choices, []);
  assert.equal(chunk.usage.completion_tokens, 8);
});

test("tools, whole and reassembled from a stream", limit, async () => {
  const parameters = { type: "object", properties: { city: { type: "string" } } };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const reply = await chat("mock/tools", { tools });
  const call = reply.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "weather");
  const stream = client.chat.completions.stream({ model: "mock/tools", messages, tools });
  const streamed = (await stream.finalMessage()).tool_calls[0];
  assert.equal(streamed.id, call.id);
  assert.equal(streamed.function.arguments, call.function.arguments);
  assert.deepEqual(Object.keys(JSON.parse(streamed.function.arguments)), ["city"]);
});

test("models and embeddings", limit, async () => {
  const names = (await collect(await client.models.list())).map((model) => model.id);
  assert.ok(names.includes("fast"));
  assert.equal((await client.models.retrieve("mock/a/b")).id, "mock/a/b");
  const input = ["a", "b"];
  const packed = await client.embeddings.create({ model: "mock/e", input });
  const plain = await client.embeddings.create({
    model: "mock/e",
    input,
    encoding_format: "float",
  });
  assert.deepEqual(packed.data[1].embedding, plain.data[1].embedding);
});

test("an upload", limit, async () => {
  const file = await OpenAI.toFile(Buffer.alloc(100_000, 7), "鹊桥.wav");
  const reply = await client.audio.transcriptions.create({ model: "mock/whisper", file });
  assert.ok(reply.bytes > 100_000);
  assert.ok((await last()).body.includes("\r\nwhisper\r\n"));
});

const failures = [
  ["mock/status:400", OpenAI.BadRequestError, 400, "invalid_value"],
  ["mock/status:401", OpenAI.AuthenticationError, 401, "invalid_api_key"],
  ["mock/status:403", OpenAI.PermissionDeniedError, 403, "unsupported_country_region_territory"],
  ["mock/status:422", OpenAI.UnprocessableEntityError, 422, "server_error"],
  ["mock/status:500", OpenAI.InternalServerError, 500, "server_error"],
  ["mock/status:503", OpenAI.InternalServerError, 503, "server_error"],
  ["mock/html:502", OpenAI.InternalServerError, 502, "provider_error"],
  ["xinghe/error200:baidu", OpenAI.RateLimitError, 429, "336501"],
  ["hasty/hang", OpenAI.InternalServerError, 504, "provider_timeout"],
  ["fats", OpenAI.NotFoundError, 404, "model_not_found"],
];
for (const [model, kind, status, code] of failures) {
  test(`${model} is a ${kind.name}`, limit, async () => {
    for (const stream of [false, true]) {
      await assert.rejects(chat(model, { stream }), (error) => {
        assert.ok(error instanceof kind, `${error}`);
        assert.deepEqual([error.status, String(error.code)], [status, code]);
        assert.match(error.requestID, /^req_/);
        return true;
      });
    }
  });
}

test("a rate limit keeps its headers, and the SDK waits by them", limit, async () => {
  await assert.rejects(chat("mock/status:429:7"), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.headers.get("retry-after"), "7");
    assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
    return true;
  });
  const replies = [{ script: "status:429:1" }, { script: "ok" }];
  await fetch(`${upstream}/__script`, {
    method: "POST",
    body: JSON.stringify({ model: "patient", replies }),
  });
  const start = performance.now();
  const reply = await chat("mock/patient", {}, { maxRetries: 2 });
  assert.equal(reply.choices[0].message.content, TEXT);
  const waited = performance.now() - start;
  assert.ok(waited > 900 && waited < 4000, `waited ${waited} ms`);
});

const broken = [
  ["mock/cut:3", "provider_truncated"],
  ["mock/reset:3", "provider_truncated"],
  ["mock/eof:3", "provider_truncated"],
  ["hasty/stall:3", "provider_timeout"],
  ["mock/malformed:3", "provider_malformed"],
  ["mock/error-event:3", "server_error"],
];
for (const [model, code] of broken) {
  test(`a stream broken by ${model} raises`, limit, async () => {
    const chunks = [];
    await assert.rejects(
      async () => {
        for await (const chunk of await chat(model, { stream: true })) chunks.push(chunk);
      },
      (error) => {
        assert.ok(error instanceof OpenAI.APIError, `${error}`);
        assert.equal(error.code, code);
        return true;
      },
    );
    assert.ok("w1 w2 w3 ".startsWith(text(chunks)));
    assert.ok(chunks.every((chunk) => chunk.choices[0].finish_reason === null));
  });
}

test("a broken answer in one piece raises", limit, async () => {
  for (const model of ["mock/cut:1", "mock/reset:1", "mock/truncated-body", "mock/html:200"]) {
    await assert.rejects(chat(model), OpenAI.InternalServerError, model);
  }
});

for (const stream of [false, true]) {
  test(`aborting cancels at the provider (stream: ${stream})`, limit, async () => {
    const controller = new AbortController();
    const model = stream ? "mock/events:2000:20" : "mock/hang";
    const asked = (async () => {
      const reply = await chat(model, { stream }, { signal: controller.signal });
      if (stream) {
        for await (const _ of reply) controller.abort();
        // The SDK ends an aborted stream without a word.
        throw new OpenAI.APIUserAbortError();
      }
    })();
    if (!stream) {
      await until(async () => (await received()).length === 1, 5000);
      controller.abort();
    }
    await assert.rejects(asked, OpenAI.APIUserAbortError);
    await until(async () => (await last()).peer_left, 500);
  });
}

test("leaving a stream cancels at the provider", limit, async () => {
  for await (const _ of await chat("mock/events:2000:20", { stream: true })) break;
  await until(async () => (await last()).peer_left, 500);
});

for (const model of ["spare-dead", "spare-busy", "spare-silent", "spare-hidden"]) {
  test(`${model} is answered by the next target`, limit, async () => {
    const reply = await chat(model);
    assert.equal(reply.choices[0].message.content, TEXT);
    assert.equal(reply.choices[0].finish_reason, "stop");
    const { data, response } = await chat(model, { stream: true }).withResponse();
    const chunks = await collect(data);
    assert.equal(text(chunks), TEXT);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
    assert.equal(response.headers.get("x-magpie-target"), "mock/ok");
  });
}

test("half an answer is not continued by another target", limit, async () => {
  const chunks = [];
  await assert.rejects(
    async () => {
      for await (const chunk of await chat("spare-late", { stream: true })) chunks.push(chunk);
    },
    (error) => {
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.equal(error.code, "provider_truncated");
      return true;
    },
  );
  assert.equal(text(chunks), "w1 w2 w3 ");
  assert.ok(chunks.every((chunk) => chunk.choices[0].finish_reason === null));
});

test("no target is left", limit, async () => {
  const known = { true: 0, false: 0 };
  const deadline = performance.now() + 10_000;
  for (let stream = false; known.true < 2 || known.false < 2; stream = !stream) {
    const start = performance.now();
    assert.ok(start < deadline, "it does not become known");
    await assert.rejects(chat("all-dead", { stream }), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
      // Tried once: there were no more retries in this second.
      if (error.code === "provider_unreachable") return true;
      known[stream] += 1;
      assert.deepEqual([error.status, error.code], [503, "no_target_available"]);
      assert.match(error.message, /nowhere\/a: .*nowhere\/b: |nowhere\/[ab]: .*nobody else was asked/);
      const wait = Number(error.headers.get("retry-after"));
      assert.ok(wait >= 1 && wait <= 5, `${wait}`);
      return true;
    });
    assert.ok(performance.now() - start < 2000);
  }
  const start = performance.now();
  await assert.rejects(chat("all-dead", {}, { maxRetries: 1 }), OpenAI.InternalServerError);
  assert.ok(performance.now() - start < 10_000, "it does not hang");
});

// Stands in front of Magpie, and loses the reply on its first connection.
async function lossy(test) {
  const { hostname, port } = new URL(magpie);
  let losses = 1;
  const server = net.createServer((client) => {
    const other = net.connect(Number(port), hostname);
    const end = () => [client, other].forEach((socket) => socket.destroy());
    [client, other].forEach((socket) => socket.on("error", end).on("close", end));
    client.pipe(other);
    losses -= 1;
    if (losses >= 0) other.once("data", end);
    else other.pipe(client);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => server.close());
  return client.withOptions({
    baseURL: `http://127.0.0.1:${server.address().port}/v1`,
    maxRetries: 2,
  });
}

test("a lost reply is asked for once with an Idempotency-Key", limit, async (test) => {
  const retrying = await lossy(test);
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  const { data, response } = await retrying.chat.completions
    .create({ model: "mock/ok", messages }, { headers })
    .withResponse();
  assert.equal(data.choices[0].message.content, TEXT);
  assert.equal(response.headers.get("idempotent-replayed"), "true");
  assert.equal((await received()).length, 1);
});

test("the keys that the SDK makes for its retries will do", limit, async (test) => {
  const retrying = await lossy(test);
  retrying.idempotencyHeader = "Idempotency-Key";
  for (const stream of [true, false]) {
    const reply = await retrying.chat.completions.create({ model: "mock/ok", messages, stream });
    const words = stream ? text(await collect(reply)) : reply.choices[0].message.content;
    assert.equal(words, TEXT);
  }
  const named = ([name]) => name.toLowerCase() === "idempotency-key";
  const keys = (await received()).map((request) => request.headers.find(named)?.[1]);
  assert.equal(new Set(keys).size, 2);
  assert.ok(keys.every((key) => key.startsWith("stainless-node-retry-")), `${keys}`);
  assert.equal(keys.length, 2, "each was asked for once");
});

test("a client that is impatient gets the answer in the end", limit, async () => {
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  const options = { headers, timeout: 1000, maxRetries: 5 };
  const reply = await chat("mock/slow:2500", {}, options);
  assert.equal(reply.choices[0].message.content, TEXT);
  assert.equal((await received()).length, 1);
});
