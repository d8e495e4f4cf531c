/** Numbers, sizes and times as text. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number|null|undefined} value @returns {string} With thousands separators; a dash for a missing value. */
export function whole(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

/**
 * A number with a suitable number of digits.
 * @param {number|null|undefined} value
 * @param {number} [digits] Digits after the decimal point of values near 1.
 * @returns {string}
 */
export function plain(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6))
    return value.toExponential(1).replace("e+", "e").replace("-", "−");
  return value.toFixed(size >= 100 ? Math.min(1, digits) : size < 0.1 ? digits + 1 : digits).replace("-", "−");
}

/** @param {number|null|undefined} share Between 0 and 1. @returns {string} */
export function percent(share) {
  return share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`;
}

/** @param {number} share Between 0 and 1. @returns {string} Without decimals, for axes. */
export function wholePercent(share) {
  return `${Math.round(share * 100)} %`;
}

/** @param {number|null|undefined} size @returns {string} */
export function bytes(size) {
  if (size === null || size === undefined) return "–";
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(unit === 0 || size >= 100 ? 0 : 1)} ${UNITS[unit]}`;
}

/** @param {number|null|undefined} seconds @returns {string} "12 s", "4 min 10 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(s, 60, "min", 1, "s");
  if (s < 86400) return pair(s, 3600, "h", 60, "min");
  return pair(s, 86400, "d", 3600, "h");
}

function pair(seconds, large, name, small, rest) {
  const left = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${name}${left ? ` ${left} ${rest}` : ""}`;
}

/** @param {number} at Seconds since the epoch. @returns {string} The time of day, with the date unless it is today. */
export function moment(at) {
  const when = new Date(at * 1000);
  const time = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (when.toDateString() === new Date().toDateString()) return time;
  return `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/** @param {number} at Seconds since the epoch. @returns {string} With seconds. */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

/** @param {number} count @param {string} one @param {string} [many] @returns {string} "1 row", "2 rows". */
export function count(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}
