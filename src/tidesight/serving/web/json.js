/** Indented JSON with lists of numbers on one line, so that a box reads as a box. */
export function jsonText(value) {
  return JSON.stringify(value, null, 2).replace(/\[[\s\d.,eE+-]+\]/g, (list) => list.replace(/\s+/g, " ").replace("[ ", "[").replace(" ]", "]"));
}
