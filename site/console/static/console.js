// What the console's pages do in a browser. Everything works without it but what
// is live: pages are rendered by the site, and this script keeps them fresh,
// shows checks while one types, and leads through wizards.
'use strict';

(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  // Times: in the reader's zone, and how long ago.
  const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
  function ago(date) {
    const s = (date - Date.now()) / 1000;
    for (const [unit, size] of [['day', 86400], ['hour', 3600], ['minute', 60]]) {
      if (Math.abs(s) >= size) return relative.format(Math.round(s / size), unit);
    }
    return Math.abs(s) < 5 ? 'now' : relative.format(Math.round(s), 'second');
  }
  function showTimes(from = document) {
    for (const t of all('time[datetime]', from)) {
      const date = new Date(t.dateTime);
      if (isNaN(date)) continue;
      const local = date.toLocaleString('sv-SE'); // year-month-day, 24 hours
      // Lists are narrow: what was lately, or will be soon, needs no date there.
      const near = Math.abs(date - Date.now()) < 86400e3 && t.closest('table.list');
      const text = t.hasAttribute('data-exact') ? local : near ? ago(date) : `${local} (${ago(date)})`;
      if (t.textContent !== text) t.textContent = text;
      t.title = local;
    }
  }

  // Live parts. What leads somewhere that nothing else leads to is known again, so
  // that a row, and the button in it that has the focus or is under the mouse,
  // stays what it is when another row comes before it.
  function tellApart(part, id) {
    const tables = all('table', part);
    const to = (e) => `${e.closest('svg') ? 'map' : tables.indexOf(e.closest('table'))}@${encodeURI(e.getAttribute('href') || e.getAttribute('action'))}`;
    const list = all('a[href], form[action]', part);
    const times = {};
    for (const e of list) times[to(e)] = (times[to(e)] || 0) + 1;
    for (const e of list) if (!e.id && times[to(e)] === 1) e.id = `${id}@${to(e)}`;
  }
  function morph(id, html) {
    const part = document.getElementById(id);
    if (!part) return;
    const had = part.contains(document.activeElement) ? document.activeElement : null;
    const next = document.createElement('template');
    next.innerHTML = html;
    tellApart(next.content, id);
    Idiomorph.morph(part, next.content, {
      morphStyle: 'innerHTML',
      ignoreActiveValue: true,
      callbacks: {
        beforeAttributeUpdated(name, node) {
          // What the reader opened stays open; what the reader typed stays.
          if (name === 'open' && node.tagName === 'DETAILS') return false;
          if (name === 'title' && node.tagName === 'TIME') return false;
          if (name === 'data-drawn') return false;
          return true;
        },
        beforeNodeMorphed(from, to) {
          // A chart is drawn by script inside this element.
          if (from.nodeType === 1 && from.classList.contains('plot')) return false;
          // A form that somebody works on is theirs.
          if (from.nodeType === 1 && from.tagName === 'FORM' && from.dataset.touched) return false;
          return true;
        },
      },
    });
    refresh(part);
    // What had the focus may be gone, or can not have it any more: the reader
    // goes on at this part, not at the top of the page.
    if (had && document.activeElement !== had) {
      if (had.isConnected) had.focus();
      if (!part.contains(document.activeElement)) {
        part.tabIndex = -1;
        part.focus({ preventScroll: true });
      }
    }
    part.dispatchEvent(new CustomEvent('fresh', { bubbles: true }));
  }
  function refresh(from) {
    showTimes(from);
    if (window.drawCharts) window.drawCharts(from);
  }
  window.showTimes = showTimes;
  function banner(text) {
    const b = $('#connection');
    if (!b) return;
    b.hidden = !text;
    b.textContent = text || '';
  }
  function listen() {
    if (!document.body.hasAttribute('data-live-page')) return;
    const page = document.body.dataset.livePage || location.pathname + location.search;
    let source, lost;
    function open() {
      source = new EventSource('/console/live?page=' + encodeURIComponent(page));
      source.addEventListener('open', () => {
        clearTimeout(lost);
        lost = undefined;
        banner('');
        document.documentElement.dataset.live = 'on';
      });
      source.addEventListener('parts', (e) => {
        const parts = JSON.parse(e.data);
        for (const id of Object.keys(parts)) morph(id, parts[id]);
        document.documentElement.dataset.fresh = String(Number(document.documentElement.dataset.fresh || 0) + 1);
        banner('');
      });
      source.addEventListener('problem', (e) => banner('This page can not be kept fresh: ' + JSON.parse(e.data)));
      source.addEventListener('ended', () => {
        source.close();
        banner('Your session has ended. Open the page again to sign in.');
      });
      source.addEventListener('error', () => {
        document.documentElement.dataset.live = 'off';
        lost = lost || setTimeout(() => banner('The site does not answer. What you see may be old; it is asked again and again.'), 2000);
        if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000);
      });
    }
    open();
    addEventListener('pagehide', () => source.close());
    addEventListener('pageshow', (e) => { if (e.persisted) open(); });
  }

  // Checks while one types: <form data-check="address"> posts what is in it, and
  // the answer has a list of checks for each field:
  // {"fields": {"region": "<html>"}, "summary": "<html>"}. Checks that cost
  // something wait until nothing was typed for a second: an answer with "more"
  // asks to post once again then, with thorough=yes. "fill" has what fields offer
  // to choose from, for the elements that data-fill names; "filled" names all of
  // it, and goes back with the next post, so that it is sent only when it changed.
  function watchForm(form) {
    let timer, asking;
    async function ask(thorough) {
      clearTimeout(timer);
      if (asking) asking.abort();
      asking = new AbortController();
      form.dataset.checking = 'yes';
      try {
        const body = new FormData(form);
        body.set('at', form.dataset.at || '');
        body.set('filled', form.dataset.filled || '');
        if (thorough === true) body.set('thorough', 'yes');
        const answer = await fetch(form.dataset.check, { method: 'POST', body, signal: asking.signal, headers: { Accept: 'application/json' } });
        if (!answer.ok) throw new Error(await answer.text());
        const found = await answer.json();
        for (const box of all('[data-found]', form)) {
          const html = (found.fields || {})[box.dataset.found] || '';
          if (found.more && !html && box.innerHTML) { box.classList.add('old'); continue; }
          box.classList.remove('old');
          if (box.innerHTML !== html) box.innerHTML = html;
          if (html) replaceRefusal(box);
        }
        for (const [name, html] of Object.entries(found.fill || {})) {
          for (const part of all(`[data-fill="${name}"]`, form)) {
            if (part.innerHTML !== html) part.innerHTML = html;
          }
        }
        if (found.filled) form.dataset.filled = found.filled;
        const summary = $('[data-summary]', form);
        if (summary) summary.innerHTML = found.summary || '';
        refresh(form);
        if (found.more) timer = setTimeout(() => ask(true), 1000);
        form.dataset.checked = String(Number(form.dataset.checked || 0) + 1);
      } catch (e) {
        if (e.name === 'AbortError') return;
        const box = $('[data-found=""]', form);
        if (box) box.textContent = e.message;
      }
      delete form.dataset.checking;
    }
    form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(ask, 350); });
    form.addEventListener('change', () => { clearTimeout(timer); timer = setTimeout(ask, 50); });
    form.addEventListener('step', () => { clearTimeout(timer); timer = setTimeout(ask, 50); });
    ask();
  }

  // What is found now takes the place of the refusal of the last attempt.
  function replaceRefusal(box) {
    const old = document.getElementById('refusal');
    if (!old || old.parentElement !== box.parentElement) return;
    old.remove();
    box.id = 'refusal';
  }

  // A field that was refused is shown wherever it is, and gets the focus.
  function reveal(field) {
    if (!field) return;
    field.dispatchEvent(new Event('reveal', { bubbles: true }));
    for (let d = field.closest('details'); d; d = d.parentElement.closest('details')) d.open = true;
    field.focus();
  }

  // Wizards: <form data-wizard> with <fieldset data-step="Name">. All steps are
  // one form, so that nothing is kept anywhere before the last one is sent.
  function leadThrough(form) {
    const steps = all('fieldset[data-step]', form);
    if (steps.length < 2) return;
    const list = document.createElement('ol');
    list.className = 'wizard-steps';
    for (const s of steps) {
      const li = document.createElement('li');
      li.textContent = s.dataset.step;
      list.append(li);
    }
    form.prepend(list);
    const bar = document.createElement('div');
    bar.className = 'actions';
    const back = document.createElement('button');
    back.type = 'button';
    back.textContent = 'Back';
    const next = document.createElement('button');
    next.type = 'button';
    next.className = 'primary';
    next.textContent = 'Next';
    next.dataset.next = '';
    const send = $('[data-send]', form);
    bar.append(back, next);
    if (send) bar.append(send);
    form.append(bar);
    let at = 0;
    function show(i, focus) {
      at = i;
      form.dataset.at = steps[i].dataset.step;
      form.dispatchEvent(new Event('step'));
      steps.forEach((s, n) => { s.hidden = n !== i; });
      Array.from(list.children).forEach((li, n) => {
        if (n === i) li.setAttribute('aria-current', 'step'); else li.removeAttribute('aria-current');
      });
      back.hidden = i === 0;
      next.hidden = i === steps.length - 1;
      if (send) send.hidden = i !== steps.length - 1;
      if (focus) {
        // A step that only says something has the focus itself.
        steps[i].tabIndex = -1;
        (all('input:not([type=hidden]), select, textarea, a, button', steps[i]).find((e) => !e.disabled && e.checkVisibility()) || steps[i]).focus();
      }
    }
    function valid(step) {
      for (const e of step.elements) {
        if (!e.checkValidity()) { e.reportValidity(); return false; }
      }
      return true;
    }
    back.addEventListener('click', () => show(at - 1, true));
    next.addEventListener('click', () => { if (valid(steps[at])) show(at + 1, true); });
    form.addEventListener('keydown', (e) => {
      if (e.key === 'Enter' && e.target.tagName === 'INPUT' && at < steps.length - 1) { e.preventDefault(); next.click(); }
    });
    form.addEventListener('submit', (e) => {
      const wrong = steps.findIndex((s) => Array.from(s.elements).some((x) => !x.checkValidity()));
      if (wrong >= 0) { e.preventDefault(); show(wrong); valid(steps[wrong]); }
    });
    form.addEventListener('reveal', (e) => show(Math.max(0, steps.findIndex((s) => s.contains(e.target)))));
    form.noValidate = true;
    show(0);
  }

  // <div data-when="name=value"> is shown while the field has one of the values
  // (separated by |), and what it holds is only then sent. Of several conditions,
  // separated by commas, one is enough.
  function conditions(form) {
    function apply() {
      for (const part of all('[data-when]', form)) {
        const on = part.dataset.when.split(',').some((condition) => {
          const [name, values] = condition.split('=');
          const field = form.elements[name];
          let value = '';
          if (field) value = field.type === 'checkbox' ? (field.checked ? 'on' : '') : field.value;
          return values.split('|').includes(value);
        });
        part.hidden = !on;
        for (const e of all('input, select, textarea', part)) {
          if (!on) e.disabled = true;
          else if (!e.closest('[data-when][hidden]')) e.disabled = false;
        }
      }
    }
    form.addEventListener('input', apply);
    form.addEventListener('change', apply);
    apply();
  }

  // <button data-confirm="What happens" data-type="name to type"> asks first.
  function confirmFirst(e) {
    const button = e.submitter;
    if (!button || !button.dataset.confirm || button.dataset.sure) return;
    e.preventDefault();
    const form = e.target;
    const dialog = document.createElement('dialog');
    const say = document.createElement('p');
    say.id = 'confirm-text';
    say.textContent = button.dataset.confirm;
    dialog.setAttribute('aria-labelledby', 'confirm-text');
    dialog.append(say);
    const bar = document.createElement('div');
    bar.className = 'actions';
    const yes = document.createElement('button');
    yes.type = 'button';
    yes.className = button.classList.contains('danger') ? 'danger' : 'primary';
    yes.textContent = button.textContent.trim();
    yes.dataset.yes = '';
    const no = document.createElement('button');
    no.type = 'button';
    no.textContent = 'Cancel';
    if (button.dataset.type) {
      const label = document.createElement('label');
      label.textContent = `Type ${button.dataset.type} to go on`;
      const input = document.createElement('input');
      input.autocomplete = 'off';
      input.name = 'typed';
      label.append(input);
      dialog.append(label);
      yes.disabled = true;
      input.addEventListener('input', () => { yes.disabled = input.value !== button.dataset.type; });
      input.addEventListener('keydown', (k) => { if (k.key === 'Enter' && !yes.disabled) yes.click(); });
    }
    bar.append(yes, no);
    dialog.append(bar);
    document.body.append(dialog);
    no.addEventListener('click', () => dialog.close());
    yes.addEventListener('click', () => {
      const typed = $('input[name=typed]', dialog);
      if (typed) {
        const h = document.createElement('input');
        h.type = 'hidden';
        h.name = 'typed';
        h.value = typed.value;
        form.append(h);
      }
      button.dataset.sure = 'yes';
      dialog.close();
      form.requestSubmit(button);
    });
    dialog.addEventListener('close', () => { dialog.remove(); if (button.isConnected) button.focus(); });
    // Tab stays inside, where the browser would go on to its own buttons.
    dialog.addEventListener('keydown', (k) => {
      if (k.key !== 'Tab') return;
      const inside = all('input, button:not(:disabled)', dialog);
      const [from, to] = k.shiftKey ? [inside[0], inside.at(-1)] : [inside.at(-1), inside[0]];
      if (document.activeElement === from) { k.preventDefault(); to.focus(); }
    });
    // Whoever holds Enter a moment too long has not said yes.
    if (!button.dataset.type) no.autofocus = true;
    dialog.showModal();
  }

  document.addEventListener('submit', confirmFirst);
  document.addEventListener('input', (e) => {
    if (e.target.form) e.target.form.dataset.touched = 'yes';
    e.target.removeAttribute('aria-invalid'); // until it is looked at again
  });
  document.addEventListener('click', async (e) => {
    const copy = e.target.closest('[data-copy]');
    const refused = e.target.closest('a[data-refused]');
    if (refused) {
      e.preventDefault();
      reveal(document.getElementById(decodeURIComponent(refused.hash.slice(1))));
    }
    if (copy) {
      const from = document.getElementById(copy.dataset.copy);
      await navigator.clipboard.writeText(from.value === undefined ? from.textContent : from.value);
      const was = copy.textContent;
      copy.textContent = 'Copied';
      setTimeout(() => { copy.textContent = was; }, 1500);
    }
  });
  document.addEventListener('change', (e) => {
    if (e.target.matches('select[data-go], input[data-go]')) e.target.form.requestSubmit();
  });

  const menu = $('nav details.menu');
  const narrow = matchMedia('(max-width: 1180px)');
  const fold = () => { if (menu) menu.open = !narrow.matches; };
  fold();
  narrow.addEventListener('change', fold);
  for (const f of all('form')) conditions(f);
  for (const f of all('form[data-wizard]')) leadThrough(f);
  for (const part of all('[data-live]')) if (part.id) tellApart(part, part.id);
  reveal($('[aria-invalid=true]'));
  for (const f of all('form[data-check]')) watchForm(f);
  refresh(document);
  setInterval(() => showTimes(), 10000);
  listen();
  document.documentElement.dataset.ready = 'yes';
})();
