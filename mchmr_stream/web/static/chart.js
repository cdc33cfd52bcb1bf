// The age of each result over the last minute.

/* global uPlot */

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  constructor(place) {
    this.place = place;
    this.data = [[], [], []];
    this.historyS = 60;
    this.targetMs = null;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(place);
    this.build();
  }

  size() {
    return { width: Math.max(80, this.place.clientWidth), height: Math.max(60, this.place.clientHeight) };
  }

  // A few late results (the first one, mostly) are cut off, so that the others can be read.
  top() {
    const sorted = this.data[1].slice().sort((a, b) => a - b);
    return Math.max(50, 1.35 * (sorted[Math.floor(0.97 * sorted.length)] ?? 0), 1.1 * (this.targetMs ?? 0));
  }

  // Colours are read when it is made.
  build() {
    this.plot?.destroy();
    const axis = { stroke: colour("--dim"), font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: colour("--edge"), width: 1 } };
    this.plot = new uPlot({
      ...this.size(),
      padding: [10, 10, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false }, y: { range: () => [0, this.top()] } },
      axes: [
        { ...axis, size: 24, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : `${tick} s`)) },
        { ...axis, size: 44, space: 28 },
      ],
      series: [
        {},
        { stroke: colour("--accent"), width: 1.5, fill: `color-mix(in srgb, ${colour("--accent")} 16%, transparent)`, points: { show: false } },
        { stroke: colour("--warn"), width: 1, dash: [5, 5], points: { show: false } },
      ],
    }, this.data, this.place);
  }

  // entries: [when in seconds since 1970, age in seconds], in order
  show(entries, nowS) {
    const times = entries.map(([atS]) => atS - nowS);
    this.data = [times, entries.map(([, ageS]) => 1000 * ageS), entries.map(() => this.targetMs)];
    this.plot.setData(this.data, false);
    this.plot.batch(() => {
      this.plot.setScale("x", { min: -this.historyS, max: 0 });
    });
  }
}
