// The live tail of a log file: asks for what was written since, and shows what
// passes the filter.
'use strict';

(() => {
  const log = document.getElementById('log');
  const filter = document.getElementById('log-filter');
  const pause = document.getElementById('log-pause');
  const state = document.getElementById('log-state');
  const most = Number(log.dataset.most);
  const every = 500; // milliseconds
  const fresh = document.getElementById('log-fresh');
  let asked = 0;
  let position = log.dataset.position;
  let paused = false;

  function say(text, tone) {
    state.textContent = text;
    state.className = 'state ' + tone;
  }
  function passes(line) {
    const text = filter.elements.text.value.toLowerCase();
    return Number(line.dataset.level) >= Number(filter.elements.level.value) && (!text || line.textContent.toLowerCase().includes(text));
  }
  function apply() {
    for (const line of log.querySelectorAll('.line')) line.hidden = !passes(line);
    const none = document.getElementById('log-none');
    if (none) none.hidden = log.querySelector('.line:not([hidden])') !== null;
  }
  function add(html) {
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const piece = document.createElement('template');
    piece.innerHTML = html;
    for (const line of piece.content.querySelectorAll('.line')) {
      line.hidden = !passes(line);
      line.classList.add('flash');
      log.append(line);
    }
    const lines = log.querySelectorAll('.line');
    for (let i = 0; i < lines.length - most; i++) lines[i].remove();
    if (follow) log.scrollTop = log.scrollHeight;
    apply();
  }
  async function ask() {
    if (!paused && !document.hidden) {
      try {
        const answer = await fetch(log.dataset.tail + '?after=' + encodeURIComponent(position) + (asked++ % 10 ? '' : '&fresh=yes'), { headers: { Accept: 'application/json' } });
        if (answer.redirected) throw new Error('your session has ended: open the page again to sign in');
        if (!answer.ok) throw new Error(await answer.text());
        const tail = await answer.json();
        position = tail.position;
        if (tail.html) add(tail.html);
        if (tail.fresh) {
          fresh.innerHTML = tail.fresh;
          window.showTimes(fresh);
        }
        if (!paused) say('live', 'good');
      } catch (e) {
        say('not live: ' + e.message, 'bad');
      }
    }
    setTimeout(ask, every);
  }
  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    pause.textContent = paused ? 'Go on' : 'Pause';
    say(paused ? 'paused' : 'live', paused ? 'warn' : 'good');
  });
  filter.addEventListener('input', apply);
  log.scrollTop = log.scrollHeight;
  apply();
  ask();
})();
