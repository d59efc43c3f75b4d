// The page of a tree: rows are virtual, so that the tree may have any number of places.
const ROW = 28;
const tree = document.getElementById('tree'), health = document.getElementById('health');
const find = document.getElementById('find'), failures = document.getElementById('failures');
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text) e.textContent = text; return e; };

let root = null, byPath = new Map(), rows = [], at = 0, fill = null, dirty = true, planned = false, draws = 0;
let orphans = 0, connected = false, down = '', stats = { messages: 0, events: 0, changes: 0, seq: 0 };
window.eyes = { stats, get rows() { return rows.length; }, get draws() { return draws; }, get: p => byPath.get(p), paths: () => [...byPath.keys()] };

// Incarnations and times of a message are differences to the place before: base has its values.
function adopt(o, parent, path, base = { n: 0, t: 0 }) {
  o.path = path; o.parent = parent; o.s = o.s || 'running';
  o.n = base.n += o.n || 0; o.t = base.t += o.t || 0; o.open = parent === null || o.s !== 'running' || (o.c || []).length <= 50;
  o.c = o.c || [];
  byPath.set(path, o);
  for (const c of o.c) adopt(c, o, path ? path + '/' + c.i : c.i, base);
  return o;
}
function forget(o) { byPath.delete(o.path); for (const c of o.c) forget(c); }
function change(x) {
  const old = byPath.get(x.p);
  if (!x.o) {
    if (old && old.parent) { old.parent.c.splice(old.parent.c.indexOf(old), 1); forget(old); dirty = true; }
    return;
  }
  if (old && !x.w) {
    old.l = old.x = undefined; old.r = old.n = old.t = old.d = undefined; old.s = 'running';
    Object.assign(old, x.o, { c: old.c, changed: performance.now() });
    return;
  }
  dirty = true;
  if (old) {
    const open = new Map(old.c.map(c => [c.i, c.open])), parent = old.parent, was = old.open;
    forget(old);
    const o = adopt(x.o, parent, x.p);
    o.open = was; o.changed = performance.now();
    for (const c of o.c) if (open.has(c.i)) c.open = open.get(c.i);
    if (parent) parent.c[parent.c.indexOf(old)] = o; else root = o;
    return;
  }
  const cut = x.p.lastIndexOf('/'), parent = byPath.get(cut < 0 ? '' : x.p.slice(0, cut));
  if (parent) { const o = adopt(x.o, parent, x.p); o.changed = performance.now(); parent.c.push(o); }
}
function take(m) {
  stats.messages++; stats.seq = m.seq; stats.events += m.events || 0; orphans = m.orphans;
  if (m.tree) { byPath = new Map(); root = adopt(m.tree, null, ''); dirty = true; }
  for (const x of m.changes || []) { stats.changes++; change(x); }
  if (m.failures) { const t = new Date().toLocaleTimeString(); news = [...m.failures.map(f => t + ' ' + f).reverse(), ...news].slice(0, 10); unread = true; }
  plan();
}
function flatten() {
  const want = find.value.toLowerCase();
  rows = [];
  const walk = (o, level, pos, size) => {
    if (!want || o.path.toLowerCase().includes(want)) rows.push([o, level, pos, size]);
    if (o.open || want) o.c.forEach((c, i) => walk(c, level + 1, i + 1, o.c.length));
  };
  if (root) walk(root, 1, 1, 1);
  at = Math.max(0, Math.min(at, rows.length - 1)); dirty = false;
}
function plan() { if (!planned) { planned = true; requestAnimationFrame(draw); } }
function since(t) { return t ? Math.max(0, Math.round((Date.now() - t) / 1000)) + ' s' : ''; }
// later draws again in so many milliseconds, if nothing does before. There is one timer: each draw
// asks for the next, and with a timer of its own each would soon draw in every frame.
let timer = 0, due = Infinity;
function later(ms) {
  const t = performance.now() + ms;
  if (t >= due) return;
  clearTimeout(timer);
  due = t; timer = setTimeout(() => { due = Infinity; plan(); }, ms);
}
// What a line of the page shows, value by value: a value is written only when it is another one than
// before, because each write costs a layout.
const writes = [
  (l, v) => { l.d.id = 'row' + v; l.d.style.top = v * ROW + 'px'; },
  (l, v) => { l.d.dataset.path = v; l.k[1].href = 'place?path=' + encodeURIComponent(v); },
  (l, v) => { l.d.className = v; },
  (l, v) => { l.d.setAttribute('aria-selected', v); },
  (l, v) => { l.d.setAttribute('aria-level', v); l.k[0].style.width = (v - 1) + 'rem'; },
  (l, v) => { l.d.setAttribute('aria-posinset', v); },
  (l, v) => { l.d.setAttribute('aria-setsize', v); },
  (l, v) => { if (v === '') l.d.removeAttribute('aria-expanded'); else l.d.setAttribute('aria-expanded', v); },
  (l, v) => { l.k[2].className = v; l.text[2].data = v.replace('-', ' '); },
  ...[1, 3, 4, 5, 6].map(i => (l, v) => { l.text[i].data = v; }),
];
let lines = [], height = 0, active = -1;
function line() {
  const d = el('div', 'row'), k = ['span', 'a', 'b', 'span', 'span', 'span', 'span'].map(t => el(t));
  d.setAttribute('role', 'treeitem'); d.append(...k); k[1].tabIndex = -1; fill.append(d);
  return { d, k, text: k.map(e => e.appendChild(new Text())), was: [] };
}
function write(l, values) {
  for (let i = 0; i < values.length; i++) if (l.was[i] !== values[i]) writes[i](l, l.was[i] = values[i]);
}
function draw() {
  planned = false; draws++;
  if (!root) { says(); return; }
  if (dirty) flatten();
  const from = Math.max(0, Math.floor(tree.scrollTop / ROW) - 3), n = Math.ceil((tree.clientHeight || 600) / ROW) + 6;
  const now = performance.now(), end = Math.min(rows.length, from + n);
  if (!fill) { fill = el('div', 'fill'); fill.setAttribute('role', 'none'); tree.replaceChildren(fill); document.getElementById('more')?.remove(); }
  if (height !== rows.length) fill.style.height = (height = rows.length) * ROW + 'px';
  let again = false;
  for (let i = from; i < end; i++) {
    const [o, level, pos, size] = rows[i], fresh = o.changed && now - o.changed < 3000, kids = o.c.length > 0;
    again ||= fresh;
    write(lines[i - from] ||= line(), [i, o.path, 'row' + (i === at ? ' at' : '') + (fresh ? ' changed' : ''), i === at, level, pos, size,
      kids ? !!o.open : '', o.s, (kids ? (o.open ? '▾ ' : '▸ ') : '') + o.i, (o.n ? '#' + o.n + ' ' : '') + since(o.t),
      o.r ? o.r + ' restarts' : '', o.l || '', o.x || '']);
  }
  for (const l of lines.splice(end - from)) l.d.remove();
  if (active !== at) tree.setAttribute('aria-activedescendant', 'row' + (active = at));
  tell(now); says();
  later(again ? 500 : 1000); // a mark ends, and the seconds go on
}
// The failures are for people to read: they change at most twice a second.
let news = [], unread = false, newsAt = -Infinity;
function tell(now) {
  if (!unread) return;
  if (now - newsAt < 500) { later(newsAt + 500 - now); return; }
  unread = false; newsAt = now;
  news.forEach((t, i) => { const li = failures.children[i] || failures.appendChild(el('li', '', ' ')); if (li.firstChild.data !== t) li.firstChild.data = t; });
}
let told = '', toldAt = 0;
function says() {
  let t = down;
  if (connected) {
    if (performance.now() - toldAt < 1000 && told && !told.startsWith('not ')) return; // the next draw asks again
    let run = 0; for (const o of byPath.values()) if (o.s === 'running') run++;
    const not = byPath.size - run;
    t = run + ' places run, ' + not + ' do not, ' + orphans + ' orphans';
  }
  if (t !== told) { health.textContent = told = t; health.className = down && !connected ? 'not-running' : ''; }
  toldAt = performance.now();
}
async function follow() {
  for (;;) {
    try {
      const res = await fetch('deltas', { headers: { Accept: 'text/event-stream' } });
      if (!res.ok) throw new Error(res.status + ' ' + await res.text());
      connected = true; toldAt = 0;
      const read = res.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await read.read();
        if (done) break;
        const parts = (rest + value).split('\n\n');
        rest = parts.pop();
        for (const p of parts) if (p.startsWith('data: ')) take(JSON.parse(p.slice(6)));
      }
      down = 'not connected: the stream has ended';
    } catch (e) { down = 'not connected: ' + e.message; }
    connected = false; plan();
    await new Promise(r => setTimeout(r, 500));
  }
}
function go(i) {
  at = Math.max(0, Math.min(i, rows.length - 1));
  if (at * ROW < tree.scrollTop) tree.scrollTop = at * ROW;
  if ((at + 1) * ROW > tree.scrollTop + tree.clientHeight) tree.scrollTop = (at + 1) * ROW - tree.clientHeight;
  plan();
}
if (tree) {
  tree.addEventListener('scroll', plan, { passive: true });
  find.addEventListener('input', () => { dirty = true; at = 0; plan(); });
  find.addEventListener('keydown', e => { if (e.key === 'Enter' || e.key === 'ArrowDown') { tree.focus(); e.preventDefault(); } if (e.key === 'Escape') { find.value = ''; dirty = true; plan(); tree.focus(); } });
  tree.addEventListener('keydown', e => {
    const o = rows[at] && rows[at][0];
    if (!o) return;
    const page = Math.floor(tree.clientHeight / ROW);
    switch (e.key) {
      case 'ArrowDown': go(at + 1); break;
      case 'ArrowUp': go(at - 1); break;
      case 'PageDown': go(at + page); break;
      case 'PageUp': go(at - page); break;
      case 'Home': go(0); break;
      case 'End': go(rows.length - 1); break;
      case 'ArrowRight': if (o.c.length && !o.open) { o.open = true; dirty = true; plan(); } else if (o.c.length) go(at + 1); break;
      case 'ArrowLeft': if (o.c.length && o.open) { o.open = false; dirty = true; plan(); } else if (o.parent) go(rows.findIndex(r => r[0] === o.parent)); break;
      case 'Enter': location.href = 'place?path=' + encodeURIComponent(o.path); break;
      default: return;
    }
    e.preventDefault();
  });
  tree.addEventListener('click', e => {
    const d = e.target.closest('.row');
    if (!d || e.target.tagName === 'A') return;
    const i = rows.findIndex(r => r[0].path === d.dataset.path);
    if (i >= 0) { rows[i][0].open = !rows[i][0].open; dirty = true; at = i; plan(); }
  });
  document.addEventListener('keydown', e => { if (e.key === '/' && document.activeElement !== find) { find.focus(); e.preventDefault(); } });
  follow();
}
const kill = document.getElementById('kill');
if (kill) kill.addEventListener('submit', async e => {
  e.preventDefault();
  const out = kill.querySelector('output');
  const res = await fetch('kill', { method: 'POST', headers: { 'X-Coppice': '1' }, body: new URLSearchParams(new FormData(kill)) });
  out.textContent = res.ok ? 'killed' : await res.text();
  if (res.ok) location.reload();
});
