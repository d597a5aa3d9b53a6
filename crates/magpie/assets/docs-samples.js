// The request in the panel, written as a command and as programs.

import { el, word, tabs, codeBlock } from './docs-ui.js';

// How the SDKs call what they have a method for: where the answer is, whole and in a piece of a stream.
const METHODS = {
  createChatCompletion: { name: 'chat.completions.create', whole: 'choices[0].message.content', piece: ['delta.content', 'delta?.content'] },
  createCompletion: { name: 'completions.create', whole: 'choices[0].text', piece: ['text', 'text'] },
  createEmbedding: { name: 'embeddings.create', whole: 'data[0].embedding' },
  listModels: { name: 'models.list' },
  getModel: { name: 'models.retrieve' },
};

const PYTHON = { null: 'None', true: 'True', false: 'False', key: (name) => JSON.stringify(name) };
const SCRIPT = { null: 'null', true: 'true', false: 'false', key: (name) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)) };
const LINE = 76;

/** A value as a literal of the language: on one line where it fits. */
function literal(value, style, indent = '') {
  if (value === null || typeof value === 'boolean') return style[String(value)];
  if (typeof value !== 'object') return JSON.stringify(value);
  const parts = (inner) => (Array.isArray(value)
    ? value.map((item) => literal(item, style, inner))
    : Object.entries(value).map(([name, item]) => `${style.key(name)}: ${literal(item, style, inner)}`));
  const [open, close] = Array.isArray(value) ? '[]' : style === SCRIPT ? ['{ ', ' }'] : '{}';
  const line = open + parts('').join(', ') + close;
  if (!line.includes('\n') && indent.length + line.length <= LINE) return line.replace('{  }', '{}');
  const inner = `${indent}    `;
  return `${open.trim()}\n${parts(inner).map((part) => `${inner}${part},\n`).join('')}${indent}${close.trim()}`;
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl({ method, url, headers, body, streamed, key }) {
  const parts = [`curl ${streamed ? '-N ' : ''}${method === 'GET' || body !== undefined ? '' : `-X ${method} `}${quote(url)}`];
  if (key) parts.push('-H "Authorization: Bearer $MAGPIE_KEY"');
  if (body !== undefined) parts.push("-H 'content-type: application/json'");
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quote(`${name}: ${value}`)}`);
  if (body !== undefined) parts.push(`-d ${quote(body)}`);
  return parts.join(' \\\n  ');
}

function python({ op, base, path, headers, json, key, known }) {
  const setUp = `${key ? 'import os\n\n' : ''}from openai import OpenAI\n\nclient = OpenAI(base_url="${base}/v1", api_key=${key ? 'os.environ["MAGPIE_KEY"]' : '"any-string"'})\n\n`;
  const method = METHODS[op.id];
  if (!method) return setUp + rawPython({ op, path, headers, json });
  if (op.id === 'listModels') return `${setUp}for model in client.models.list():\n    print(model.id)`;
  if (op.id === 'getModel') return `${setUp}print(client.models.retrieve(${JSON.stringify(path.id)}))`;
  const lines = [];
  const more = {};
  for (const [name, value] of Object.entries({ model: 'default', ...json })) {
    if (known.has(name)) lines.push(`    ${name}=${literal(value, PYTHON, '    ')},\n`);
    else more[name] = value; // the SDK refuses names that it does not know
  }
  if (Object.keys(more).length) lines.push(`    extra_body=${literal(more, PYTHON, '    ')},\n`);
  const call = `client.${method.name}(\n${lines.join('')})\n`;
  if (!json?.stream) return `${setUp}reply = ${call}print(reply.${whole(method, json)})`;
  return `${setUp}stream = ${call}for chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].${method.piece[0]} or "", end="", flush=True)`;
}

const whole = (method, json) => (json?.tools ? 'choices[0].message.tool_calls' : method.whole);

function rawPython({ op, path, headers, json }) {
  const lines = [`    ${JSON.stringify(`/${path.path}`)},\n`, '    cast_to=object,\n'];
  if (json !== undefined) lines.push(`    body=${literal(json, PYTHON, '    ')},\n`);
  if (Object.keys(headers).length) lines.push(`    options={"headers": ${literal(headers, PYTHON, '    ')}},\n`);
  return `reply = client.${op.method}(\n${lines.join('')})\nprint(reply)`;
}

function node({ op, base, path, headers, json, key }) {
  const setUp = `import OpenAI from "openai";\n\nconst client = new OpenAI({\n    baseURL: "${base}/v1",\n    apiKey: ${key ? 'process.env.MAGPIE_KEY' : '"any-string"'},\n});\n\n`;
  const method = METHODS[op.id];
  if (!method) return setUp + rawNode({ op, path, headers, json });
  if (op.id === 'listModels') return `${setUp}for await (const model of client.models.list()) {\n    console.log(model.id);\n}`;
  if (op.id === 'getModel') return `${setUp}console.log(await client.models.retrieve(${JSON.stringify(path.id)}));`;
  const call = `await client.${method.name}(${literal({ model: 'default', ...json }, SCRIPT)});\n`;
  if (!json?.stream) return `${setUp}const reply = ${call}console.log(reply.${whole(method, json)});`;
  return `${setUp}const stream = ${call}for await (const chunk of stream) {\n    process.stdout.write(chunk.choices[0]?.${method.piece[1]} ?? "");\n}`;
}

function rawNode({ op, path, headers, json }) {
  const options = {};
  if (json !== undefined) options.body = json;
  if (Object.keys(headers).length) options.headers = headers;
  const extra = Object.keys(options).length ? `, ${literal(options, SCRIPT)}` : '';
  return `const reply = await client.${op.method}(${JSON.stringify(`/${path.path}`)}${extra});\nconsole.log(reply);`;
}

let preferred = 0; // the language chosen last, kept from one operation to the next

/** The samples of an operation; `update` rewrites them for another request. */
export function sampleView(op) {
  const writers = [{ label: 'curl', grammar: 'shell', write: curl }];
  if (op.path.startsWith('/v1/')) {
    writers.push({ label: 'Python', grammar: 'python', write: python }, { label: 'Node', grammar: 'javascript', write: node });
  }
  for (const writer of writers) writer.block = codeBlock('', writer.grammar);
  const items = writers.map(({ label, block }) => ({ label, panel: el('div', {}, block.node) }));
  const { node: view } = tabs(word('samples'), items, Math.min(preferred, writers.length - 1), (i) => { preferred = i; });
  const update = (request) => writers.forEach(({ write, block }) => block.set(write({ ...request, op })));
  return { node: view, update };
}

