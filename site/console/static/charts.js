// Charts: draws every <figure class="chart" data-chart="JSON"> with uPlot. Other
// numbers and another width change a chart in place; it is drawn anew only when
// it has other series, or the colour scheme changed.
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
  const faded = (rgb) => rgb.replace('rgb(', 'rgba(').replace(')', ', 0.45)');

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

  // Times as they are everywhere in the console: year-month-day, 24 hours.
  const day = '\n{MM}-{DD}', year = '\n{YYYY}';
  const timeText = uPlot.fmtDate('{YYYY}-{MM}-{DD} {HH}:{mm}');
  const timeMarks = [
    [31536000, '{YYYY}', null, null, null, null, null, null, 1],
    [2419200, '{MMM}', year, null, null, null, null, null, 1],
    [86400, '{MM}-{DD}', year, null, null, null, null, null, 1],
    [60, '{HH}:{mm}', day, null, day, null, null, null, 1],
    [1, '{HH}:{mm}:{ss}', day, null, day, null, null, null, 1],
  ];

  // What uPlot draws: series on top of each other are sums.
  function dataOf(c) {
    const values = c.series.map((s) => s.values.slice());
    if (c.stacked) {
      for (let s = values.length - 2; s >= 0; s--) values[s] = values[s].map((v, i) => (v || 0) + (values[s + 1][i] || 0));
    }
    return [c.times, ...values, ...(c.marks || []).map((m) => c.times.map(() => m.value))];
  }
  // All of a chart but its numbers: while it stays, the chart is kept and gets
  // others, and the reader's hover stays where it is.
  const shapeOf = (c) => JSON.stringify([c.unit, c.stacked, c.series.map((s) => [s.label, s.dashed]), c.marks]);
  // A value between two gaps is no line: it gets a point.
  function alone(u, si) {
    const v = u.data[si];
    const list = [];
    for (let i = 0; i < v.length; i++) {
      if (v[i] != null && v[i - 1] == null && v[i + 1] == null) list.push(i);
    }
    return list;
  }

  const drawn = new WeakMap(); // by the element that the chart is in
  function draw(figure) {
    const text = figure.dataset.chart;
    const plot = figure.querySelector('.plot');
    const old = drawn.get(plot);
    const width = plot.clientWidth;
    if (!width || old && old.text === text && old.width === width && old.dark === dark()) return;
    const c = JSON.parse(text);
    const shape = shapeOf(c);
    if (old && old.shape === shape && old.dark === dark()) {
      old.now = c;
      if (old.width !== width) old.chart.setSize({ width, height: heightOf(width) });
      if (old.text !== text) old.chart.setData(dataOf(c));
      Object.assign(old, { text, width });
      const { left, top } = old.chart.cursor;
      if (left >= 0) old.chart.setCursor({ left, top });
      figure.dataset.drawn = 'yes';
      return;
    }
    if (old) old.chart.destroy();
    plot.textContent = '';
    const state = { text, shape, width, dark: dark(), now: c };
    const series = [{ label: 'Time', value: (u, t) => t == null ? '' : timeText(new Date(t * 1000)) }];
    let hue = -1;
    c.series.forEach((s, i) => {
      if (!s.dashed) hue++;
      const stroke = colour(palette[hue % palette.length]);
      series.push({
        label: s.label, stroke, width: 1.5, dash: s.dashed ? [3, 3] : undefined, fill: c.stacked ? faded(stroke) : undefined, points: { show: false, filter: alone, size: 6, fill: stroke },
        // Not the sum that is drawn. It is asked for before a chart is complete.
        value: (u, v, si, di) => di == null || !state.now.series[si - 1] ? '' : inUnit(c.unit, state.now.series[si - 1].values[di]),
      });
    });
    for (const m of c.marks || []) {
      series.push({ label: m.label, stroke: colour(`var(--${m.tone})`), dash: [10, 4], width: 1, points: { show: false }, value: () => inUnit(c.unit, m.value) });
    }
    const axis = { stroke: colour('var(--dim)'), grid: { stroke: colour('var(--line)'), width: 0.5 }, ticks: { stroke: colour('var(--line)'), width: 0.5 } };
    // Each series is filled down to the next one only, or colours would mix.
    const bands = c.stacked ? c.series.slice(1).map((s, i) => ({ series: [i + 1, i + 2] })) : [];
    state.chart = new uPlot({
      width, height: heightOf(width), series, bands,
      axes: [{ ...axis, values: timeMarks }, { ...axis, size: 64, values: (u, at) => at.map((v) => inUnit(c.unit, v)) }],
      scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      legend: { markers: { dash: (u, i) => u.series[i].dash ? 'dashed' : 'solid' } },
      cursor: { drag: { x: false, y: false } },
    }, dataOf(c), plot);
    drawn.set(plot, state);
    figure.dataset.drawn = 'yes';
  }
  const heightOf = (width) => Math.max(160, Math.min(260, Math.round(width * 0.45)));
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
