// The panel that makes a request and sends it.

import { el, word, both, prose, newId } from './docs-ui.js';
import { resultView, readReply, pretty, parse, isObject } from './docs-result.js';

let apiKey = ''; // in memory only, for every panel
let chosenModel = 'echo';
const drafts = new Map(); // what was typed for each operation, kept while the page is open

export function chooseModel(id) {
  chosenModel = id;
  for (const draft of drafts.values()) draft.body = withModel(draft.body);
}

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
  const params = new Map(op.params.map((param) => [param.name, paramField(param, draft, changed)]));
  const editor = op.hasBody ? bodyEditor(op, draft, models, changed, (path) => params.get('path')?.set(path)) : undefined;
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

  // What has to be said comes first; headers are for those who know that they want them.
  const fields = (...places) => op.params.filter((param) => places.includes(param.in)).map((param) => params.get(param.name).node);
  form.append(
    el('h2', {}, word('tryIt')),
    ...fields('path', 'query'),
    ...(editor ? [editor] : []),
    ...fields('header'),
    ...(op.path.startsWith('/v1/') ? [field(word('apiKey'), keyInput, word('keyHint'))] : []),
    el('div', { class: 'actions' }, sendButton, stopButton, el('span', { class: 'hint' }, word('sendHint'))),
    view.node,
  );
  form.addEventListener('submit', submit);
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  changed();
  return { node: form, close: () => running?.abort() };
}

function paramField(param, draft, changed) {
  const input = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', required: param.required });
  input.value = draft.params[param.name];
  input.addEventListener('input', () => { draft.params[param.name] = input.value; changed(); });
  const set = (value) => { input.value = draft.params[param.name] = value; };
  return { node: field(el('code', {}, param.name), input), set };
}

/** The body as JSON, which is what is sent, and controls that change a part of it each. */
function bodyEditor(op, draft, models, changed, setPath) {
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
  const pickers = [examplePicker(op, write, setPath), modelPicker(models, edit)].filter(Boolean);
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

function examplePicker(op, write, setPath) {
  const examples = Object.values(op.examples);
  if (examples.length < 2) return undefined;
  const select = el('select', {}, examples.map((example, i) => el('option', { value: i }, both(example, 'summary'))));
  select.addEventListener('change', () => {
    const example = examples[select.value];
    if (example['x-path']) setPath(example['x-path']); // an example of the catch-all belongs to one path
    write(withModel(pretty(example.value)));
  });
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
  // A path that may hold slashes may hold a query too.
  const filled = op.path.replace(/\{(\w+)\}/g, (_, name) => {
    const param = op.params.find((each) => each.name === name);
    return param['x-slashes'] ? encodeURI(path[name]) : encodeURIComponent(path[name]);
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
    await readReply(response, view);
  } catch (error) {
    view.broke(signal.aborted, error);
  }
}
