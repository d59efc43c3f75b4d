// Sends the code of a link, which stands behind "#", and goes on to the dashboard.
const code = location.hash.slice(1), said = document.getElementById('said');
if (code) {
  history.replaceState(null, '', location.pathname);
  const res = await fetch('session', { method: 'POST', headers: { 'X-Coppice': '1' }, body: new URLSearchParams({ code }) });
  if (res.ok) location.replace('./'); else said.textContent = await res.text();
}
