/** Icons, 18 by 18, in the colour of the text beside them. */

import { svg } from "./dom.js";

const PATHS = {
  jobs: "M2.5 13.5c3 0 3.5-8 6.5-8s3 6 6.5 6",
  data: "M3 4.5h12M3 9h12M3 13.5h7",
  playground: "M3 4h12v8.5H8.5L5.5 15v-2.5H3z",
  system: "M4 4h10v10H4zM7 1.5V4m4-2.5V4M7 14v2.5M11 14v2.5M1.5 7H4m-2.5 4H4M14 7h2.5M14 11h2.5",
  pause: "M6 4v10M12 4v10",
  resume: "M6 3.5 14 9l-8 5.5z",
  stop: "M5 5h8v8H5z",
  download: "M9 2.5v8.5M5.5 8 9 11.5 12.5 8M3 15h12",
  upload: "M9 12V3M5.5 6.5 9 3l3.5 3.5M3 15h12",
  plus: "M9 3.5v11M3.5 9h11",
  close: "M4.5 4.5l9 9M13.5 4.5l-9 9",
  bin: "M3.5 5h11M7 5V3h4v2M5 5l.7 10h6.6L13 5",
  copy: "M6.5 6.5h8v8h-8zM11.5 6.5v-3h-8v8h3",
  check: "M3.5 9.5 7.5 13.5 14.5 5",
};

/**
 * An icon; screen readers skip it.
 * @param {keyof PATHS} name
 * @param {number} [size] In pixels.
 * @returns {SVGElement}
 */
export function icon(name, size = 18) {
  const line = {
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.6,
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
  };
  return svg(
    "svg",
    { viewBox: "0 0 18 18", width: size, height: size, "aria-hidden": "true" },
    svg("path", { d: PATHS[name], ...line }),
  );
}
