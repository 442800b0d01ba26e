// Charts: draws every <figure class="chart" data-chart="JSON"> with uPlot, and
// draws it again when its numbers, its width or the colour scheme changed.
'use strict';

(() => {
  const palette = ['light-dark(#1d5fbf, #6ea8ff)', 'light-dark(#b3541e, #ffab7a)', 'light-dark(#17754a, #5fd39a)', 'light-dark(#7b3fa0, #cf9bf0)',
    'light-dark(#8a6d00, #e6c84f)', 'light-dark(#0b7285, #5fd0e4)', 'light-dark(#a3166b, #ff8fce)', 'light-dark(#555d6b, #aab4c3)', 'light-dark(#a3161f, #ff9b9b)'];
  // The canvas knows no light-dark(): a probe element tells what a colour is now.
  const probe = document.createElement('span');
  probe.hidden = true;
  function colour(css) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = css;
    return getComputedStyle(probe).color;
  }
  const faded = (rgb) => rgb.replace('rgb(', 'rgba(').replace(')', ', 0.25)');

  const units = {
    bytes(v) {
      for (const [size, name] of [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']]) {
        if (Math.abs(v) >= size) return trim(v / size) + ' ' + name;
      }
      return trim(v) + ' B';
    },
    ms(v) { return v >= 1000 ? trim(v / 1000) + ' s' : trim(v) + ' ms'; },
    GB(v) { return trim(v) + ' GB'; },
    '%'(v) { return trim(v) + ' %'; },
  };
  function trim(v) {
    const a = Math.abs(v);
    return a >= 1000 ? Math.round(v).toLocaleString('en') : String(Number(v.toFixed(a < 1 ? 2 : 1)));
  }
  const inUnit = (unit, v) => v == null ? '–' : (units[unit] || trim)(v);

  const drawn = new WeakMap();
  function draw(figure) {
    const text = figure.dataset.chart;
    const plot = figure.querySelector('.plot');
    const old = drawn.get(figure);
    const width = plot.clientWidth;
    if (!width || old && old.text === text && old.width === width && old.dark === dark()) return;
    const c = JSON.parse(text);
    if (old) old.chart.destroy();
    plot.textContent = '';
    const values = c.series.map((s) => s.values.slice());
    if (c.stacked) {
      for (let s = values.length - 2; s >= 0; s--) values[s] = values[s].map((v, i) => (v || 0) + (values[s + 1][i] || 0));
    }
    const data = [c.times, ...values];
    const series = [{}];
    c.series.forEach((s, i) => {
      const stroke = colour(palette[i % palette.length]);
      series.push({
        label: s.label, stroke, width: 1.5, fill: c.stacked ? faded(stroke) : undefined, points: { show: c.times.length < 3 },
        value: (u, v, si, di) => inUnit(c.unit, di == null ? null : s.values[di]),
      });
    });
    for (const m of c.marks || []) {
      data.push(c.times.map(() => m.value));
      series.push({ label: m.label, stroke: colour(`var(--${m.tone})`), dash: [6, 4], width: 1.5, points: { show: false }, value: () => inUnit(c.unit, m.value) });
    }
    const axis = { stroke: colour('var(--dim)'), grid: { stroke: colour('var(--line)'), width: 0.5 }, ticks: { stroke: colour('var(--line)'), width: 0.5 } };
    const chart = new uPlot({
      width, height: Math.max(160, Math.min(260, Math.round(width * 0.45))), series,
      axes: [axis, { ...axis, size: 64, values: (u, at) => at.map((v) => inUnit(c.unit, v)) }],
      scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      cursor: { drag: { x: false, y: false } },
    }, data, plot);
    drawn.set(figure, { chart, text, width, dark: dark() });
    figure.dataset.drawn = 'yes';
  }
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  const dark = () => scheme.matches;
  window.drawCharts = (from) => {
    for (const f of from.querySelectorAll('figure.chart')) draw(f);
  };
  const again = () => window.drawCharts(document);
  scheme.addEventListener('change', again);
  let timer;
  addEventListener('resize', () => { clearTimeout(timer); timer = setTimeout(again, 100); });
})();
