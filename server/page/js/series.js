/** The steps and evaluations of a job in memory: a bounded number of points, however long the run is. */

const MOST_POINTS = 4000;
const FIELDS = ["step", "forwards", "elapsed", "loss", "spread", "slope", "learning_rate", "lost"];

/** Points to request from the server for a chart as wide as the page. */
export const POINTS = 2000;

/** The x axes that charts can have: field of a step, name, and how a value is written. */
export const AXES = {
  forwards: { key: "forwards", name: "forward passes", format: (value) => short(value) },
  elapsed: { key: "elapsed", name: "of compute time", format: (value) => spent(value) },
  step: { key: "step", name: "steps", format: (value) => short(value) },
};

/** The axes as choices for the user. */
export const AXIS_CHOICES = [
  ["forwards", "Forward passes"],
  ["elapsed", "Time"],
  ["step", "Steps"],
];

/** Steps and evaluations of one job, as columns. */
export class Series {
  constructor() {
    this.clear();
  }

  /** Removes all points. */
  clear() {
    this.columns = Object.fromEntries(FIELDS.map((name) => [name, []]));
    this.evals = new Map();
    this.last = null;
    this.lastIsTemporary = false;
    this.stride = 1;
  }

  /** @param {{steps: Object[], evals: Object[], decisions: Object[]}} document The answer of GET /jobs/{id}/metrics. */
  load(document) {
    this.clear();
    this.before = document.decisions.reduce((sum, one) => sum + (one.seconds ?? 0), 0);
    document.steps.forEach((step) => this.#push(step));
    document.evals.forEach((one) => this.evals.set(one.step, one));
    this.stride = document.steps.length > 1 ? Math.max(1, Math.round(this.last.step / document.steps.length)) : 1;
  }

  /** @param {Object} step A step of the event stream; the running sums `elapsed` and `lost` are continued here. */
  addStep(step) {
    if (this.last !== null && step.step <= this.last.step) return;
    const elapsed = (this.last?.elapsed ?? this.before ?? 0) + step.seconds;
    const lost = (this.last?.lost ?? 0) + step.dropped + (step.rejected ?? 0);
    const whole = { ...step, elapsed, lost };
    // Every `stride`-th step is kept. The newest step is also held until the next one replaces it.
    if (this.lastIsTemporary) FIELDS.forEach((name) => this.columns[name].pop());
    this.lastIsTemporary = step.step % this.stride !== 0;
    this.#push(whole);
    if (this.length > MOST_POINTS) this.#halve();
  }

  /** @param {Object} one An evaluation. */
  addEval(one) {
    this.evals.set(one.step, one);
  }

  /** @returns {number} Number of points. */
  get length() {
    return this.columns.step.length;
  }

  /**
   * Columns over an axis.
   * @param {keyof AXES} axis
   * @param {...string} names Fields of a step.
   * @returns {Array<Array<number|null>>} [x, ...]
   */
  table(axis, ...names) {
    const x = axis === "step" ? this.columns.step.map((step) => step + 1) : this.columns[AXES[axis].key];
    return [x, ...names.map((name) => this.columns[name])];
  }

  /**
   * Evaluations over an axis.
   * @param {keyof AXES} axis
   * @param {...(evaluation: Object) => number|null} read
   * @returns {Array<Array<number|null>>} [x, ...]
   */
  evalTable(axis, ...read) {
    const all = [...this.evals.values()].sort((a, b) => a.step - b.step);
    // While steps are thinned out, two evaluations may have the same x value: the later one is kept.
    const at = new Map(all.map((one) => [this.place(axis, one.step), one]));
    const list = [...at.entries()].sort((a, b) => a[0] - b[0]);
    return [list.map(([x]) => x), ...read.map((value) => list.map(([, one]) => value(one)))];
  }

  /** @param {keyof AXES} axis @param {number} done Finished steps. @returns {number} Their x value. */
  place(axis, done) {
    if (axis === "step" || this.length === 0) return done;
    const column = this.columns[AXES[axis].key];
    if (done === 0)
      return axis === "elapsed" ? (this.before ?? 0) : Math.max(0, 2 * column[0] - (column[1] ?? column[0]));
    return column[this.#indexOf(done - 1)];
  }

  #indexOf(step) {
    let low = 0;
    let high = this.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.columns.step[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #push(step) {
    for (const name of FIELDS) this.columns[name].push(step[name] ?? null);
    this.last = step;
  }

  #halve() {
    for (const name of FIELDS) {
      const column = this.columns[name];
      this.columns[name] = column.filter((_, index) => index % 2 === 0 || index === column.length - 1);
    }
    this.stride *= 2;
  }
}

/**
 * A centred moving average: shows the trend of a noisy column without a lag.
 * @param {Array<number|null>} column
 * @returns {Array<number|null>} Of the same length; null where the column is null.
 */
export function smooth(column) {
  const half = Math.max(1, Math.min(60, Math.round(column.length / 40)));
  const sums = [0];
  const counts = [0];
  column.forEach((value, index) => {
    sums.push(sums[index] + (value ?? 0));
    counts.push(counts[index] + (value === null ? 0 : 1));
  });
  return column.map((value, index) => {
    if (value === null) return null;
    // The window is symmetric, so that a straight slope stays straight near the ends, but never narrower than `least`.
    const least = Math.ceil(half / 2);
    const side = Math.min(half, Math.max(index, least), Math.max(column.length - 1 - index, least));
    const from = Math.max(0, index - side);
    const to = Math.min(column.length, index + side + 1);
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

function short(value) {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : String(Math.round(value));
}

function spent(value) {
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Number((value / 60).toFixed(1))} min` : `${Number((value / 3600).toFixed(1))} h`;
}
