// What every part of the page is built with: elements, the two languages, the theme, code blocks, tabs.
// Nothing here takes markup from a text: every string becomes a text node.

import { words } from './docs-i18n.js';

// Storage can be switched off altogether; the page then just forgets.
const store = {
  get(name) { try { return localStorage.getItem(`magpie-${name}`); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(`magpie-${name}`, value); } catch { /* forgotten, no harm */ } },
};

// ---- language

let language = store.get('language') ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');

// What to say again at a change of language, by node: what has left the page is forgotten with its node.
const spoken = new WeakMap();

export const word = (name) => ({ en: words[name][0], zh: words[name][1] });

/** A described thing's text in both languages: `description` and `x-description-zh`, say. */
export const both = (thing, field) => ({ en: thing[field] ?? '', zh: thing[`x-${field}-zh`] ?? thing[field] ?? '' });

export const pick = (text) => (typeof text === 'string' ? text : text[language] || text.en);

const isBoth = (value) => value !== null && typeof value === 'object' && 'en' in value;

/** Applies now and at every change of language, so that a change rebuilds nothing and loses no input. */
export function speak(node, apply) {
  apply();
  spoken.set(node, [...(spoken.get(node) ?? []), apply]);
}

function setLanguage(next) {
  language = next;
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  const walk = document.createTreeWalker(document, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walk.nextNode()) nodes.push(walk.currentNode); // first, since applying changes the tree
  for (const node of nodes) for (const apply of spoken.get(node) ?? []) apply();
}

export function startLanguage(button) {
  setLanguage(language);
  speak(button, () => {
    button.textContent = language === 'zh' ? 'English' : '中文';
    button.lang = language === 'zh' ? 'en' : 'zh-CN';
  });
  button.addEventListener('click', () => {
    setLanguage(language === 'zh' ? 'en' : 'zh');
    store.set('language', language);
  });
}

// ---- theme

const systemDark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? 'dark' : 'light')) === 'dark';

export function startTheme(button) {
  const remembered = store.get('theme');
  if (remembered === 'dark' || remembered === 'light') document.documentElement.dataset.theme = remembered;
  const show = () => button.setAttribute('aria-pressed', String(isDark()));
  show();
  systemDark.addEventListener('change', show);
  button.addEventListener('click', () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    store.set('theme', document.documentElement.dataset.theme);
    show();
  });
}

// ---- elements

/** `el('p', { class: 'note' }, 'text', node, bothLanguages)`: texts in both languages follow the toggle. */
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) setAttribute(node, name, value);
  for (const child of children.flat()) append(node, child);
  return node;
}

function setAttribute(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
  else if (isBoth(value)) speak(node, () => node.setAttribute(name, pick(value)));
  else node.setAttribute(name, value === true ? '' : value);
}

function append(node, child) {
  if (child === undefined || child === null || child === false) return;
  if (!isBoth(child)) return void node.append(child);
  const text = document.createTextNode('');
  node.append(text);
  speak(text, () => { text.data = pick(child); });
}

/** Prose: blank lines part paragraphs, backticks mark code. */
export function prose(text, className = 'prose') {
  const node = el('div', { class: className });
  speak(node, () => node.replaceChildren(...pick(text).split('\n\n').filter(Boolean).map((part) => el('p', {}, inline(part)))));
  return node;
}

const inline = (text) => text.split('`').map((part, i) => (i % 2 ? el('code', {}, part) : part));

// ---- code

const GRAMMAR = {
  json: /(?<name>"(?:\\.|[^"\\])*"(?=\s*:))|(?<text>"(?:\\.|[^"\\])*")|(?<number>-?\b\d[\d.eE+-]*)|(?<key>\b(?:true|false|null)\b)/g,
  python: /(?<text>"(?:\\.|[^"\\])*")|(?<note>#.*)|(?<key>\b(?:from|import|for|in|if|or|print|True|False|None)\b)|(?<number>-?\b\d[\d.]*)/g,
  javascript: /(?<text>"(?:\\.|[^"\\])*")|(?<note>\/\/.*)|(?<key>\b(?:import|from|const|new|for|of|await|true|false|null)\b)|(?<number>-?\b\d[\d.]*)/g,
  shell: /(?<text>'[^']*'|"[^"]*")|(?<key>\bcurl\b| -\w+)/g,
  events: /(?<key>^(?:data|event|id|retry):)|(?<note>^:.*|\[DONE\])|(?<name>"(?:\\.|[^"\\])*"(?=:))|(?<text>"(?:\\.|[^"\\])*")/gm,
};

/** The text with its parts in spans, for the style sheet to colour. */
export function highlight(text, grammar) {
  const out = document.createDocumentFragment();
  let end = 0;
  for (const match of GRAMMAR[grammar] ? text.matchAll(GRAMMAR[grammar]) : []) {
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    out.append(text.slice(end, match.index), el('span', { class: `c-${kind}` }, match[0]));
    end = match.index + match[0].length;
  }
  out.append(text.slice(end));
  return out;
}

/** A block of code that can be copied; `set` shows another text in it. */
export function codeBlock(text, grammar) {
  const code = el('code');
  const pre = el('pre', { tabindex: '0' }, code); // can be scrolled by keyboard
  let shown = '';
  const set = (next) => { shown = next; code.replaceChildren(highlight(next, grammar)); };
  set(text);
  return { node: el('div', { class: `code ${grammar}` }, pre, copyButton(() => shown)), set };
}

export function copyButton(text) {
  const label = (name) => { button.replaceChildren(); append(button, word(name)); };
  const button = el('button', { type: 'button', class: 'copy', 'aria-live': 'polite' });
  label('copy');
  button.addEventListener('click', async () => {
    await copy(text());
    label('copied');
    setTimeout(() => label('copy'), 1500);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http on another host has no clipboard: the old way still works there.
    const area = el('textarea', { class: 'offscreen', readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

// ---- tabs

let serial = 0;
export const newId = () => `id-${++serial}`;

/** Tabs by the ARIA pattern: one stop for Tab, arrows between them. Items are `{ label, panel }`. */
export function tabs(label, items, chosen = 0, onChoose = () => {}) {
  const buttons = items.map(({ label: name, panel }, i) => {
    const id = newId();
    panel.id = `${id}-panel`;
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', id);
    return el('button', { type: 'button', role: 'tab', id, 'aria-controls': panel.id, onclick: () => { select(i); onChoose(i); } }, name);
  });
  const select = (chosen) => items.forEach(({ panel }, i) => {
    panel.hidden = i !== chosen;
    buttons[i].setAttribute('aria-selected', String(i === chosen));
    buttons[i].tabIndex = i === chosen ? 0 : -1;
  });
  const list = el('div', { class: 'tabs', role: 'tablist', 'aria-label': label }, buttons);
  list.addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = (buttons.indexOf(document.activeElement) + step + items.length) % items.length;
    buttons[next].focus();
    buttons[next].click();
  });
  select(chosen);
  return { node: el('div', { class: 'tabbed' }, list, items.map(({ panel }) => panel)), select, buttons };
}
