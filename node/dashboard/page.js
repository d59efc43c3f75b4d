// Keeps a page current, follows events, and sends what the forms ask for.
const link = document.getElementById('link'), every = Number(document.body.dataset.refresh) * 1000;
const sleep = ms => new Promise(r => setTimeout(r, ms));
const say = t => { if (link.textContent !== t) { link.textContent = t; link.className = t ? 'not-running' : ''; } };

async function refresh() {
  const live = document.getElementById('live'), at = document.activeElement;
  const res = await fetch(location.href, { headers: { Accept: 'text/html' } });
  if (res.redirected) { location.reload(); return; }
  if (!res.ok) throw new Error(res.status + ' ' + await res.text());
  const next = new DOMParser().parseFromString(await res.text(), 'text/html').getElementById('live');
  const open = live.contains(at) && at.getAttribute('href');
  live.replaceChildren(...next.childNodes);
  if (open) [...live.querySelectorAll('a')].find(a => a.getAttribute('href') === open)?.focus();
}
async function keep() {
  for (;;) {
    await sleep(link.textContent ? 500 : every);
    if (document.hidden) continue;
    try { await refresh(); say(''); } catch (e) { say('not connected: ' + e.message); }
  }
}
if (every) keep();

for (const f of document.querySelectorAll('form[data-post]')) f.addEventListener('submit', async e => {
  e.preventDefault();
  const out = f.querySelector('output');
  out.textContent = '…';
  const res = await fetch(f.dataset.post, { method: 'POST', headers: { 'X-Coppice': '1' }, body: new URLSearchParams(new FormData(f)) });
  out.textContent = await res.text();
});

// Events: records resume after the last one that was shown, also after a restart of the node.
const list = document.getElementById('events'), pause = document.getElementById('pause');
let last = '', paused = false;
function show(type, data) {
  const li = document.createElement('li'), e = JSON.parse(data);
  if (type === 'failed' || type === 'gone') { say(e.error); return; }
  li.textContent = type === 'record' ? e.cursor + ' ' + e.kind + ' ' + JSON.stringify(e.record).slice(0, 300)
    : [e.kind || type, e.path, e.text || e.reason || e.state || ''].filter(Boolean).join(' ');
  li.dataset.cursor = type === 'record' ? e.cursor : '';
  list.prepend(li);
  while (list.children.length > 200) list.lastChild.remove();
}
async function follow() {
  for (;;) {
    try {
      const headers = { Accept: 'text/event-stream' };
      if (last) headers['Last-Event-ID'] = last;
      const res = await fetch('events/stream?filter=' + encodeURIComponent(list.dataset.filter), { headers });
      if (!res.ok) throw new Error(res.status + ' ' + await res.text());
      say('');
      const read = res.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        while (paused) await sleep(100);
        const { value, done } = await read.read();
        if (done) break;
        const parts = (rest + value).split('\n\n');
        rest = parts.pop();
        for (const p of parts) {
          const f = {};
          for (const l of p.split('\n')) { const i = l.indexOf(': '); if (i > 0) f[l.slice(0, i)] = l.slice(i + 2); }
          if (f.id) last = f.id;
          if (f.event) show(f.event, f.data);
        }
      }
      say('not connected: the stream has ended');
    } catch (e) { say('not connected: ' + e.message); }
    await sleep(500);
  }
}
if (list) {
  pause.hidden = false;
  pause.addEventListener('click', () => { paused = !paused; pause.setAttribute('aria-pressed', paused); pause.textContent = paused ? 'Go on' : 'Pause'; });
  follow();
}
