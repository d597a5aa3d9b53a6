// The panel that sends a request and shows what comes back while it comes.

import { el, word, both, pick, prose, tabs, highlight, newId } from './docs-ui.js';

const MOST_EVENTS = 500; // rows in the list of events: more would only slow the page
const MOST_TEXT = 200_000; // characters of an answer or a body that are shown

let apiKey = ''; // in memory only, for every panel
let chosenModel = 'echo';
const drafts = new Map(); // what was typed for each operation, kept while the page is open

export function chooseModel(id) {
  chosenModel = id;
  for (const draft of drafts.values()) draft.body = withModel(draft.body);
}

const pretty = (json) => JSON.stringify(json, null, 2);
const parse = (text) => { try { return JSON.parse(text); } catch { return undefined; } };
const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

function withModel(body) {
  const json = parse(body);
  return isObject(json) && 'model' in json ? pretty({ ...json, model: chosenModel }) : body;
}

// ---- the form

// Where each operation keeps what a person would type first.
const PROMPTS = {
  createChatCompletion: {
    get: (json) => json.messages?.findLast?.((message) => message?.role === 'user')?.content,
    set: (json, text) => {
      const message = json.messages?.findLast?.((each) => each?.role === 'user');
      if (message) message.content = text;
      else json.messages = [...(json.messages ?? []), { role: 'user', content: text }];
    },
  },
  createCompletion: { get: (json) => json.prompt, set: (json, text) => { json.prompt = text; } },
  createEmbedding: { get: (json) => json.input, set: (json, text) => { json.input = text; } },
};

function field(label, control, hint) {
  control.id ||= newId();
  const note = hint && prose(hint, 'hint');
  if (note) {
    note.id = newId();
    control.setAttribute('aria-describedby', note.id);
  }
  return el('div', { class: 'field' }, el('label', { for: control.id }, label), control, note);
}

function draftOf(op) {
  if (!drafts.has(op.id)) {
    const first = Object.values(op.examples)[0]?.value;
    const params = Object.fromEntries(op.params.map(({ name, example }) => [name, String(example ?? '')]));
    drafts.set(op.id, { body: first ? withModel(pretty(first)) : '', params });
  }
  return drafts.get(op.id);
}

/** The panel of an operation. `onChange` gets the request whenever it can be written down; `close` stops what runs. */
export function tryPanel(op, models, onChange) {
  const draft = draftOf(op);
  const view = resultView(op);
  const form = el('form', { class: 'try', 'aria-label': word('tryIt') });
  const editor = op.hasBody ? bodyEditor(op, draft, models, changed) : undefined;
  let running;

  const sendButton = el('button', { type: 'submit', class: 'primary' }, word('send'));
  const stopButton = el('button', { type: 'button', disabled: true, onclick: () => running?.abort() }, word('stop'));
  const keyInput = el('input', { type: 'password', autocomplete: 'off', spellcheck: 'false' });
  keyInput.value = apiKey;
  keyInput.addEventListener('input', () => { apiKey = keyInput.value.trim(); changed(); });

  function changed() {
    const request = requestOf(op, draft);
    if (request.body === undefined || request.json !== undefined) onChange(request);
  }

  async function submit(event) {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    sendButton.disabled = true;
    stopButton.disabled = false;
    await send(requestOf(op, draft), view, running.signal);
    running = undefined;
    sendButton.disabled = false;
    stopButton.disabled = true;
  }

  form.append(
    el('h2', {}, word('tryIt')),
    ...op.params.map((param) => paramField(param, draft, changed)),
    ...(editor ? [editor] : []),
    ...(op.path.startsWith('/v1/') ? [field(word('apiKey'), keyInput, word('keyHint'))] : []),
    el('div', { class: 'actions' }, sendButton, stopButton, el('span', { class: 'hint' }, word('sendHint'))),
    view.node,
  );
  form.addEventListener('submit', submit);
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) submit(event);
  });
  changed();
  return { node: form, close: () => running?.abort() };
}

function paramField(param, draft, changed) {
  const input = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', required: param.required });
  input.value = draft.params[param.name];
  input.addEventListener('input', () => { draft.params[param.name] = input.value; changed(); });
  return field(el('code', {}, param.name), input);
}

/** The body as JSON, which is what is sent, and controls that change a part of it each. */
function bodyEditor(op, draft, models, changed) {
  const area = el('textarea', { class: 'mono', spellcheck: 'false', autocapitalize: 'off' });
  const problem = el('p', { class: 'problem', role: 'status' });
  const controls = [];
  const write = (text) => { area.value = text; read(); };

  function read() {
    draft.body = area.value;
    area.rows = Math.min(Math.max(area.value.split('\n').length, 4), 16);
    const json = parse(area.value);
    const bad = json === undefined && area.value.trim() !== '';
    area.setAttribute('aria-invalid', String(bad));
    problem.replaceChildren(...(bad ? [el('span', {}, word('badJson'))] : []));
    if (isObject(json)) for (const control of controls) control.show(json);
    changed();
  }

  // Going through JSON.parse may round a very long number; typing in the area itself never does.
  function edit(change) {
    const json = area.value.trim() === '' ? {} : parse(area.value);
    if (!isObject(json)) return problem.replaceChildren(el('span', {}, word('fixJson')));
    change(json);
    return write(pretty(json));
  }

  const rows = [];
  const pickers = [examplePicker(op, write), modelPicker(models, edit)].filter(Boolean);
  for (const { show } of pickers) if (show) controls.push({ show });
  rows.push(el('div', { class: 'pair' }, pickers.map(({ node }) => node)));
  for (const make of [promptField, streamSwitch]) {
    const control = make(op, edit);
    if (control) { controls.push(control); rows.push(control.node); }
  }
  area.addEventListener('input', read);
  area.value = draft.body;
  queueMicrotask(read); // when the panel that hears of it is complete
  return el('div', { class: 'body-editor' }, rows, field(word('bodyJson'), area), problem);
}

function examplePicker(op, write) {
  const examples = Object.values(op.examples);
  if (examples.length < 2) return undefined;
  const select = el('select', {}, examples.map((example, i) => el('option', { value: i }, both(example, 'summary'))));
  select.addEventListener('change', () => write(withModel(pretty(examples[select.value].value))));
  return { node: field(word('example'), select) };
}

function modelPicker(models, edit) {
  const select = el('select', {});
  const offer = (id) => {
    if (![...select.options].some((option) => option.value === id)) select.append(el('option', { value: id }, id));
  };
  for (const id of models.length ? models : ['echo']) offer(id);
  select.addEventListener('change', () => {
    chosenModel = select.value;
    edit((json) => { json.model = select.value; });
  });
  const show = ({ model = 'default' }) => {
    if (typeof model !== 'string') return;
    offer(model);
    select.value = model;
  };
  return { node: field(word('model'), select), show };
}

function promptField(op, edit) {
  const place = PROMPTS[op.id];
  if (!place) return undefined;
  const area = el('textarea', { rows: 3 });
  area.addEventListener('input', () => edit((json) => place.set(json, area.value)));
  const show = (json) => {
    const text = place.get(json);
    area.disabled = text !== undefined && typeof text !== 'string'; // parts or lists are edited as JSON
    if (!area.disabled && area.value !== (text ?? '')) area.value = text ?? '';
  };
  return { node: field(word('prompt'), area), show };
}

function streamSwitch(op, edit) {
  if (!op.streams) return undefined;
  const box = el('input', { type: 'checkbox', role: 'switch' });
  box.addEventListener('change', () => edit((json) => {
    if (box.checked) json.stream = true;
    else { delete json.stream; delete json.stream_options; } // which providers refuse without a stream
  }));
  return { node: el('label', { class: 'switch' }, box, el('span', { class: 'track' }), el('span', {}, word('stream'))), show: (json) => { box.checked = json.stream === true; } };
}

// ---- the request

function requestOf(op, draft) {
  const path = Object.fromEntries(op.params.filter((param) => param.in === 'path').map(({ name }) => [name, draft.params[name]]));
  const headers = {};
  for (const { name } of op.params.filter((param) => param.in === 'header')) if (draft.params[name]) headers[name] = draft.params[name];
  const filled = op.path.replace(/\{(\w+)\}/g, (_, name) => {
    const param = op.params.find((each) => each.name === name);
    return param['x-slashes'] ? path[name].split('/').map(encodeURIComponent).join('/') : encodeURIComponent(path[name]);
  });
  const body = op.hasBody && draft.body.trim() !== '' ? draft.body : undefined;
  const json = body === undefined ? undefined : parse(body);
  return {
    method: op.method.toUpperCase(), base: location.origin, url: location.origin + filled, path, headers, body, json,
    streamed: json?.stream === true, key: apiKey !== '', known: op.known,
  };
}

async function send({ method, url, headers, body }, view, signal) {
  view.begin();
  try {
    const all = { ...headers };
    if (body !== undefined) all['content-type'] = 'application/json';
    if (apiKey) all.authorization = `Bearer ${apiKey}`;
    const response = await fetch(url, { method, headers: all, body, signal, cache: 'no-store', credentials: 'omit' });
    view.head(response);
    const kind = response.headers.get('content-type') ?? '';
    if (kind.startsWith('text/event-stream')) await readStream(response, view);
    else await readWhole(response, kind, view);
  } catch (error) {
    view.broke(signal.aborted, error);
  }
}

async function readWhole(response, kind, view) {
  const bytes = await response.arrayBuffer();
  view.byte();
  if (!/^text\/|json|xml|^$/.test(kind)) return view.binary(bytes.byteLength, kind);
  return view.whole(new TextDecoder().decode(bytes), response.ok);
}

async function readStream(response, view) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const feed = eventParser((event) => view.event(event));
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return view.streamEnd();
    view.byte();
    feed(value);
  }
}

/** Server-sent events out of pieces of text that may be cut anywhere, even between a CR and its LF. */
export function eventParser(onEvent) {
  let rest = '';
  let lines = [];
  return (text) => {
    const parts = (rest + text).split(/\r\n|\n|\r(?=[^\n])/);
    rest = parts.pop();
    for (const line of parts) {
      if (line !== '') { lines.push(line); continue; }
      const data = lines.filter((each) => each.startsWith('data:')).map((each) => each.slice(5).replace(/^ /, '')).join('\n');
      if (lines.length) onEvent({ raw: lines.join('\n'), data });
      lines = [];
    }
  };
}

// ---- the result

function resultView(op) {
  const outcome = el('p', { class: 'outcome', role: 'status' });
  const figures = el('dl', { class: 'figures' });
  const answer = answerView();
  const raw = el('div', { class: 'raw', tabindex: '0' });
  const headers = el('div', { class: 'raw', tabindex: '0' });
  const items = [{ label: word('body'), panel: raw }, { label: word('headers'), panel: headers }];
  if (op.answers) items.unshift({ label: word('answer'), panel: answer.node });
  const { node: tabbed } = tabs(word('answer'), items);
  const node = el('div', { class: 'result', hidden: true }, outcome, figures, tabbed);
  let started, seen, response, count, ended, problem;

  const say = (kind, text, detail) => {
    outcome.className = `outcome ${kind}`;
    outcome.replaceChildren(el('span', {}, text), detail ? ` ${detail}` : '');
  };
  const figure = (name, value) => {
    if (!seen.has(name)) seen.set(name, figures.appendChild(el('div', {}, el('dt', {}, word(name)), el('dd', {}, value))));
  };
  const time = (name) => figure(name, duration(performance.now() - started));
  const finish = (kind, text, detail) => {
    time('total');
    answer.busy(false);
    say(kind, text, detail);
  };
  const showText = (text) => { time('firstText'); answer.text(text); };
  const gather = (json) => {
    if (json.error) problem = json.error.message ?? pretty(json.error);
    answer.take(json, showText);
    if (json.usage?.total_tokens !== undefined) figure('tokens', String(json.usage.total_tokens));
  };

  return {
    node,
    begin() {
      [started, seen, response, count, ended, problem] = [performance.now(), new Map(), undefined, 0, false, undefined];
      node.hidden = false;
      for (const part of [figures, raw, headers]) part.replaceChildren();
      answer.clear();
      answer.busy(true);
      say('running', word('waiting'));
    },
    head(reply) {
      response = reply;
      figure('status', `${reply.status} ${reply.statusText}`.trim());
      headers.append(headerTable(reply.headers));
      node.dataset.ok = String(reply.ok);
    },
    byte: () => time('firstByte'),
    event({ raw: text, data }) {
      const json = parse(data);
      if (data.trim() === '[DONE]') ended = true;
      if (isObject(json)) gather(json);
      count += 1;
      if (count <= MOST_EVENTS) raw.append(el('div', { class: 'event' }, el('span', { class: 'at' }, duration(performance.now() - started)), el('code', {}, highlight(text, 'events'))));
      if (count === MOST_EVENTS + 1) raw.append(el('p', { class: 'hint' }, word('moreEvents')));
    },
    streamEnd() {
      if (problem) finish('bad', word('failed'), problem);
      else if (ended || !op.streams) finish('good', word('ended'));
      else finish('bad', word('cut'));
    },
    whole(text, ok) {
      const json = parse(text);
      if (isObject(json)) gather(json);
      const shown = json === undefined ? text : pretty(json);
      raw.append(el('pre', {}, el('code', {}, highlight(shown.slice(0, MOST_TEXT), json === undefined ? '' : 'json'))));
      if (shown.length > MOST_TEXT) raw.append(el('p', { class: 'hint' }, word('moreText')));
      if (ok) finish('good', word('ended'));
      else finish('bad', word('failed'), problem);
    },
    binary(size, kind) {
      raw.append(el('p', { class: 'hint' }, word('notText'), ` ${kind}, ${size.toLocaleString()} B`));
      finish('good', word('ended'));
    },
    broke(stopped, error) {
      if (stopped) finish('stopped', word('stopped'));
      else if (response) finish('bad', word('cut'), error.message);
      else finish('bad', word('unreachable'), error.message);
    },
  };
}

const duration = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`);

/** The gateway's own headers first: they are what a reader looks for here. */
function headerTable(headers) {
  const rank = ([name]) => (name.startsWith('x-magpie') ? 0 : name.endsWith('request-id') ? 1 : 2);
  const rows = [...headers].sort((a, b) => rank(a) - rank(b));
  return el('dl', { class: 'header-list' }, rows.map((row) => el('div', { class: rank(row) < 2 ? 'own' : '' }, el('dt', {}, row[0]), el('dd', {}, row[1]))));
}

/** The readable part of an answer: reasoning, text, tool calls; whole, or growing piece by piece. */
function answerView() {
  const node = el('div', { class: 'answer', 'aria-live': 'polite', tabindex: '0' });
  let parts = new Map();
  let length = 0;

  function grow(name, text, wrap) {
    if (length > MOST_TEXT) return;
    length += text.length;
    if (!parts.has(name)) {
      const leaf = document.createTextNode('');
      parts.set(name, leaf);
      node.append(wrap(leaf));
    }
    parts.get(name).appendData(text);
    if (length > MOST_TEXT) node.append(el('p', { class: 'hint' }, word('moreText')));
  }
  const text = (piece) => grow('text', piece, (leaf) => el('div', { class: 'text' }, leaf));
  const reasoning = (piece) => grow('reasoning', piece, (leaf) => el('details', { class: 'reasoning', open: true }, el('summary', {}, word('reasoning')), el('div', { class: 'text' }, leaf)));
  const tool = (call, place) => grow(`tool ${call.index ?? place}`, (call.function?.name ? `${call.function.name} ` : '') + (call.function?.arguments ?? ''), (leaf) => el('pre', { class: 'tool' }, leaf));

  function take(json, showText) {
    const choice = json.choices?.find?.((each) => (each.index ?? 0) === 0);
    const message = choice?.delta ?? choice?.message ?? {};
    const thought = message.reasoning_content ?? message.reasoning;
    if (typeof thought === 'string' && thought) reasoning(thought);
    const piece = message.content ?? choice?.text ?? (json.type === 'response.output_text.delta' ? json.delta : vectors(json));
    if (typeof piece === 'string' && piece) showText(piece);
    message.tool_calls?.forEach?.(tool);
    if (json.error) text(json.error.message ?? pick(word('failed')));
  }

  return {
    node, text, take,
    busy: (busy) => node.setAttribute('aria-busy', String(busy)), // so that it is read out once, when whole
    clear() { node.replaceChildren(); parts = new Map(); length = 0; },
  };
}

function vectors(json) {
  if (!Array.isArray(json.data)) return undefined;
  return json.data.filter(({ embedding }) => Array.isArray(embedding))
    .map(({ embedding }) => `[${embedding.slice(0, 6).join(', ')}${embedding.length > 6 ? ', …' : ''}]  × ${embedding.length}`).join('\n');
}
