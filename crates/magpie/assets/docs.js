// The API page: reads /openapi.json and /v1/models, and draws one page for each operation.

import { el, word, both, speak, pick, prose, codeBlock, copyButton, tabs, startLanguage, startTheme } from './docs-ui.js';
import { words } from './docs-i18n.js';
import { sampleView } from './docs-samples.js';
import { tryPanel, chooseModel } from './docs-try.js';

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const menu = document.getElementById('menu');
const SECTIONS = ['overview', 'models', 'authentication', 'streams', 'headers', 'errors'];
const METHODS = ['post', 'get', 'delete'];

let spec; // the description of the API
let operations = [];
let models = []; // what /v1/models listed; undefined when it could not be read
let leave = () => {}; // stops what the page shown has started

// ---- the description

function deref(thing) {
  if (!thing?.$ref) return thing ?? {};
  const found = thing.$ref.slice(2).split('/').reduce((at, name) => at?.[name], spec);
  const { $ref, ...own } = thing;
  return { ...deref(found), ...own };
}

const nameOf = (thing) => thing.$ref?.split('/').pop();

function operationsOf() {
  return Object.entries(spec.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method]).map((method) => {
    const op = item[method];
    const json = op.requestBody?.content['application/json'];
    const schema = deref(json?.schema);
    const ok = deref(op.responses['200']).content ?? {};
    return {
      id: op.operationId, method, path, tag: op.tags[0], doc: op, json,
      params: [...(op.parameters ?? []), ...(item.parameters ?? [])].map(deref),
      hasBody: op.requestBody !== undefined,
      examples: json?.examples ?? {},
      known: new Set(Object.keys(schema.properties ?? {})),
      streams: 'text/event-stream' in ok,
      answers: op.tags[0] === 'Generate',
    };
  }));
}

async function fetchJson(url) {
  const response = await fetch(url, { credentials: 'omit', headers: { accept: 'application/json' } });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.json();
}

// ---- schemas

function typeOf(raw) {
  const schema = deref(raw);
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(' | ');
  const name = nameOf(raw);
  return [schema.type ?? 'any'].flat().map((type) => {
    if (type === 'array') return schema.items && Object.keys(schema.items).length ? `array of ${typeOf(schema.items)}` : 'array';
    return type === 'object' && name ? name : type;
  }).join(' | ');
}

/** The object whose fields stand behind a schema, if there is one: in a list, or among choices. */
function objectIn(raw) {
  const schema = deref(raw);
  if (schema.properties) return schema;
  if (schema.items) return objectIn(schema.items);
  return (schema.anyOf ?? schema.oneOf ?? []).map(objectIn).find(Boolean);
}

function fields(schema) {
  const required = schema.required ?? [];
  return el('ul', { class: 'fields' }, Object.entries(schema.properties).map(([name, raw]) => fieldRow(name, raw, required.includes(name))));
}

function fieldRow(name, raw, required) {
  const schema = deref(raw);
  const inner = objectIn(raw);
  return el('li', {},
    el('div', { class: 'field-head' },
      el('code', { class: 'field-name' }, name),
      el('span', { class: 'type' }, typeOf(raw)),
      required && el('span', { class: 'required' }, word('required')),
      schema.default !== undefined && el('span', { class: 'type' }, word('default'), ` ${JSON.stringify(schema.default)}`)),
    schema.description && prose(both(schema, 'description')),
    inner && folded(el('span', {}, word('fields')), () => fields(inner)));
}

/** Details that are made when they are first opened. */
function folded(summary, build, open = false) {
  const node = el('details', { open }, el('summary', {}, summary));
  const fill = () => { if (node.open && node.childElementCount === 1) node.append(build()); };
  node.addEventListener('toggle', fill);
  fill();
  return node;
}

function schemaView(raw, title, open) {
  const schema = deref(raw);
  const inner = objectIn(raw);
  return el('div', { class: 'schema' },
    schema.description && prose(both(schema, 'description'), 'prose note'),
    inner && folded(el('span', {}, title), () => fields(inner), open));
}

// ---- parts of an operation's page

const statusClass = (status) => ({ 2: 'good', 4: 'warn', 5: 'bad' })[status[0]] ?? 'plain';
const statusBadge = (status) => el('span', { class: `status ${statusClass(status)}` }, status === 'default' ? word('otherStatus') : status);

function exampleBlocks(media) {
  const examples = media.examples ? Object.values(media.examples) : media.example !== undefined ? [{ value: media.example }] : [];
  if (!examples.length) return null;
  const block = ({ value }) => (typeof value === 'string' ? codeBlock(value.trimEnd(), 'events') : codeBlock(JSON.stringify(value, null, 2), 'json')).node;
  if (examples.length === 1) return block(examples[0]);
  return tabs(word('examples'), examples.map((example) => ({ label: both(example, 'summary'), panel: el('div', {}, block(example)) }))).node;
}

function responseView(status, raw) {
  const response = deref(raw);
  const summary = el('span', { class: 'response-summary' }, statusBadge(status), prose(both(response, 'description')));
  return folded(summary, () => el('div', { class: 'response-body' },
    Object.entries(response.content ?? {}).map(([type, media]) => el('div', { class: 'media' },
      el('p', { class: 'media-type' }, el('code', {}, type)),
      media.schema && schemaView(media.schema, word('fields')),
      media['x-event-schema'] && schemaView(media['x-event-schema'], word('eachEvent')),
      exampleBlocks(media))),
    response.headers && el('div', { class: 'media' }, el('p', { class: 'media-type' }, word('headers')), headerRows(response.headers))), status === '200');
}

function headerRows(headers) {
  return el('dl', { class: 'rows' }, Object.entries(headers).map(([name, raw]) => el('div', {},
    el('dt', {}, el('code', {}, name)), el('dd', {}, prose(both(deref(raw), 'description'))))));
}

function paramRows(op) {
  return el('ul', { class: 'fields' }, op.params.map((param) => el('li', {},
    el('div', { class: 'field-head' },
      el('code', { class: 'field-name' }, param.name),
      el('span', { class: 'type' }, param.in),
      el('span', { class: param.required ? 'required' : 'type' }, word(param.required ? 'required' : 'optional'))),
    prose(both(param, 'description')))));
}

const methodBadge = (op) => el('span', { class: `method ${op.method}` }, op.method.toUpperCase());
const section = (name, ...children) => el('section', {}, el('h2', {}, word(name)), ...children);

function operationPage(op) {
  const samples = sampleView(op);
  const panel = tryPanel(op, models ?? [], samples.update);
  leave = panel.close;
  const address = location.origin + op.path;
  return [
    el('div', { class: 'op-head' },
      el('p', { class: 'eyebrow' }, tagName(op.tag)),
      el('h1', { tabindex: '-1' }, both(op.doc, 'summary')),
      el('p', { class: 'route' }, methodBadge(op), el('code', {}, op.path), copyButton(() => address)),
      prose(both(op.doc, 'description'), 'prose lead')),
    el('div', { class: 'op-side' }, panel.node, el('div', { class: 'card samples' }, el('h2', {}, word('samples')), samples.node)),
    el('div', { class: 'op-docs' },
      op.params.length > 0 && section('parameters', paramRows(op)),
      op.json && section('requestBody', schemaView(op.json.schema, word('fields'), true)),
      section('responses', el('div', { class: 'responses' }, Object.entries(op.doc.responses).map(([status, raw]) => responseView(status, raw))))),
  ];
}

const tagName = (name) => ({ en: name, zh: spec.tags.find((tag) => tag.name === name)?.['x-name-zh'] ?? name });

// ---- the first page

function overviewPage() {
  const chat = operations.find(({ id }) => id === 'createChatCompletion');
  const base = `${location.origin}/v1`;
  const anchored = (name, ...children) => el('section', { id: name }, el('h2', {}, word(name === 'models' ? 'modelsHere' : name)), ...children);
  return [
    el('div', { class: 'hero' },
      el('h1', { tabindex: '-1' }, both(spec.info, 'summary')),
      // Its second paragraph is Chinese, for viewers that do not know the extension.
      prose({ en: spec.info.description.split('\n\n')[0], zh: spec.info['x-description-zh'] }, 'prose lead'),
      el('div', { class: 'base' }, el('span', {}, word('baseUrl')), el('code', {}, base), copyButton(() => base))),
    el('section', {}, el('h2', {}, word('quickstart')), prose(word('quickstartText')), firstCall(chat)),
    anchored('models', modelList(chat)),
    anchored('authentication', prose(word('authText')), prose(both(spec.components.securitySchemes.bearer, 'description'))),
    anchored('streams', prose(word('streamsText')), streamDoc(chat)),
    anchored('headers', prose(word('headersText')), headerRows(Object.fromEntries(Object.entries(spec.components.headers).filter(([name]) => name !== 'allow')))),
    anchored('errors', prose(both(deref({ $ref: '#/components/schemas/Error' }), 'description')), errorTable(chat)),
  ];
}

function firstCall(op) {
  const samples = sampleView(op);
  const json = { model: defaultModel(), messages: [{ role: 'user', content: 'Hello' }] };
  samples.update({ method: 'POST', base: location.origin, url: location.origin + op.path, path: {}, headers: {}, body: JSON.stringify(json, null, 2), json, known: op.known });
  return samples.node;
}

const defaultModel = () => (!models?.length || models.includes('echo') ? 'echo' : models[0]);

function modelList(chat) {
  if (!models) return el('p', { class: 'notice' }, word('noModels'));
  return [prose(word('modelsText')), el('ul', { class: 'chips' }, models.map((id) => el('li', {},
    el('a', { href: `#${chat.id}`, onclick: () => chooseModel(id) }, id))))];
}

function streamDoc(chat) {
  const media = deref(chat.doc.responses['200']).content['text/event-stream'];
  return [prose(both(media.schema, 'description')), exampleBlocks(media)];
}

function errorTable(chat) {
  const rows = Object.entries(chat.doc.responses).filter(([status]) => status !== '200').map(([status, raw]) => {
    const response = deref(raw);
    const media = Object.values(response.content)[0];
    const values = media.examples ? Object.values(media.examples).map(({ value }) => value) : [media.example].filter(Boolean);
    return el('tr', {}, el('td', {}, statusBadge(status)),
      el('td', {}, prose(both(response, 'description')), el('p', { class: 'codes' }, values.map(({ error }) => el('code', {}, error.code)))));
  });
  return el('table', { class: 'errors' }, el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, word('status')), el('th', { scope: 'col' }, word('meaning')))), el('tbody', {}, rows));
}

// ---- the frame

function drawNav() {
  const link = (id, ...label) => el('li', {}, el('a', { href: `#${id}` }, ...label));
  const group = (title, ...links) => [el('h2', {}, title), el('ul', {}, ...links)];
  nav.replaceChildren(
    ...group(word('start'), SECTIONS.map((id) => link(id, word(id === 'models' ? 'modelsHere' : id)))),
    ...spec.tags.flatMap(({ name }) => group(tagName(name), operations.filter(({ tag }) => tag === name).map((op) => link(op.id, methodBadge(op), el('span', {}, both(op.doc, 'summary')))))));
}

function route(first) {
  const id = decodeURIComponent(location.hash.slice(1)) || 'overview';
  const op = operations.find((each) => each.id === id);
  const wanted = op ? op.id : 'overview';
  if (main.dataset.page !== wanted) {
    leave();
    leave = () => {};
    main.dataset.page = wanted;
    main.className = op ? 'operation' : 'overview';
    main.replaceChildren(...(op ? operationPage(op) : overviewPage()));
    scrollTo(0, 0);
    if (first !== true) main.querySelector('h1').focus({ preventScroll: true });
  }
  if (!op) (id === 'overview' ? main : document.getElementById(id) ?? main).scrollIntoView();
  for (const link of nav.querySelectorAll('a')) {
    if (link.hash === `#${id}` || (!op && !location.hash && link.hash === '#overview')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  openMenu(false);
}

function openMenu(open) {
  menu.setAttribute('aria-expanded', String(open));
  document.body.classList.toggle('menu-open', open);
}

function startFrame() {
  for (const node of document.querySelectorAll('[data-word]')) speak(node, () => { node.textContent = pick(word(node.dataset.word)); });
  for (const node of document.querySelectorAll('[data-label]')) speak(node, () => node.setAttribute('aria-label', pick(word(node.dataset.label))));
  startLanguage(document.getElementById('language'));
  startTheme(document.getElementById('theme'));
  menu.addEventListener('click', () => openMenu(menu.getAttribute('aria-expanded') !== 'true'));
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault(); // its hash would be taken for a page
    main.focus();
  });
  document.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || !document.body.classList.contains('menu-open')) return;
    openMenu(false);
    menu.focus();
  });
}

async function start() {
  main.replaceChildren(el('p', { class: 'notice' }, word('loading')));
  try {
    [spec, models] = await Promise.all([
      fetchJson('/openapi.json'),
      fetchJson('/v1/models').then(({ data }) => data.map(({ id }) => id), () => undefined), // the page is of use without it
    ]);
    if (models && !models.includes('echo') && models.length) chooseModel(defaultModel());
    operations = operationsOf();
    document.getElementById('version').textContent = spec.info.version;
    drawNav();
    addEventListener('hashchange', route);
    route(true);
  } catch (error) {
    main.replaceChildren(el('div', { class: 'notice' }, el('p', {}, word('loadFailed'), ` ${error.message}`), el('button', { type: 'button', onclick: start }, word('reload'))));
  }
}

startFrame();
start();
