// What comes back, shown while it comes: the outcome, the times, the answer, the raw events, the headers.

import { el, word, pick, tabs, highlight } from './docs-ui.js';

const MOST_EVENTS = 500; // rows in the list of events: more would only slow the page
const MOST_TEXT = 200_000; // characters of an answer or a body that are shown

export const pretty = (json) => JSON.stringify(json, null, 2);
export const parse = (text) => { try { return JSON.parse(text); } catch { return undefined; } };
export const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** Reads a reply into the view: as events when it is a stream, whole otherwise. */
export async function readReply(response, view) {
  view.head(response);
  const kind = response.headers.get('content-type') ?? '';
  if (kind.startsWith('text/event-stream')) await readStream(response, view);
  else await readWhole(response, kind, view);
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
function eventParser(onEvent) {
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

export function resultView(op) {
  const outcome = el('p', { class: 'outcome', role: 'status' });
  const figures = el('dl', { class: 'figures' });
  const answer = answerView();
  const raw = el('div', { class: 'raw', tabindex: '0' });
  const headers = el('div', { class: 'raw', tabindex: '0' });
  const items = [{ label: word('raw'), panel: raw }, { label: word('headers'), panel: headers }];
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
      node.scrollIntoView({ block: 'nearest' });
    },
    head(reply) {
      response = reply;
      figure('status', `${reply.status} ${reply.statusText}`.trim());
      headers.append(headerTable(reply.headers));
      say('running', word('arriving'));
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
    if (json.error) grow('error', json.error.message ?? pick(word('failed')), (leaf) => el('p', { class: 'problem' }, leaf));
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
