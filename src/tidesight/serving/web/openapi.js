// Reading an OpenAPI 3.1 document: references, schemas in words, example values. Nothing here touches the page.

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const DEEPEST = 6; // levels of nested objects that are spelled out; a schema may contain itself

/** Follow `$ref` inside `document`; members beside the reference win over what it points to, as 3.1 has it. */
export function resolve(document, node) {
  const seen = new Set();
  let found = node;
  while (found && typeof found === "object" && typeof found.$ref === "string" && !seen.has(found.$ref)) {
    seen.add(found.$ref);
    const { $ref, ...beside } = found;
    found = { ...(pointer(document, $ref) ?? {}), ...beside };
  }
  return found ?? {};
}

function pointer(document, reference) {
  if (!reference.startsWith("#/")) return null;
  const steps = reference.slice(2).split("/").map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((node, step) => (node && Object.hasOwn(node, step) ? node[step] : undefined), document);
}

/** The name at the end of a reference, or "". */
export function referenceName(node) {
  return typeof node?.$ref === "string" ? node.$ref.split("/").at(-1) : "";
}

/** Every operation as `{id, method, path, tag, operation, parameters}`, in the document's order. */
export function operations(document) {
  return Object.entries(document.paths ?? {}).flatMap(([path, entry]) => {
    const item = resolve(document, entry);
    return METHODS.filter((method) => item[method]).map((method) => ({
      id: `${method}${path}`.replace(/[^A-Za-z0-9]+/g, "-").replace(/-$/, ""),
      method: method.toUpperCase(),
      path,
      operation: item[method],
      tag: item[method].tags?.[0] ?? "",
      parameters: mergedParameters(document, item.parameters, item[method].parameters),
    }));
  });
}

// An operation's parameter replaces the path's of the same name and place.
function mergedParameters(document, ofPath = [], ofOperation = []) {
  const merged = new Map();
  [...ofPath, ...ofOperation].map((node) => resolve(document, node)).forEach((one) => merged.set(`${one.in} ${one.name}`, one));
  return [...merged.values()];
}

/** A schema with its reference followed and `allOf` folded in. */
export function flat(document, node) {
  const schema = resolve(document, node);
  if (!Array.isArray(schema.allOf)) return schema;
  const { allOf, ...own } = schema;
  return [...allOf.map((part) => flat(document, part)), own].reduce((whole, part) => ({
    ...whole, ...part,
    ...(whole.properties || part.properties ? { properties: { ...whole.properties, ...part.properties } } : {}),
    ...(whole.required || part.required ? { required: [...new Set([...(whole.required ?? []), ...(part.required ?? [])])] } : {}),
  }), {});
}

/** The type of a schema in a few words: "array of number", "string (date-time) or null", a name for a shared one. */
export function typeText(document, node, depth = 0) {
  if (node === true || node === undefined) return "anything";
  if (node === false) return "nothing";
  const schema = flat(document, node);
  const name = referenceName(node);
  if (depth > 3) return name || "…";
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return unique(choices.map((choice) => typeText(document, choice, depth + 1))).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [schema.type ?? (schema.properties ? "object" : schema.items ? "array" : null)].flat().filter(Boolean);
  if (!types.length) return name || "anything";
  return types.map((type) => oneType(document, type, schema, name, depth)).join(" or ");
}

function oneType(document, type, schema, name, depth) {
  if (type === "array") {
    const fixed = schema.prefixItems?.map((item) => typeText(document, item, depth + 1)).join(", ");
    return fixed ? `[${fixed}]` : `array of ${typeText(document, schema.items, depth + 1)}`;
  }
  if (type === "object") {
    if (name) return name;
    const other = schema.additionalProperties;
    return other && typeof other === "object" ? `object of ${typeText(document, other, depth + 1)}` : "object";
  }
  const format = schema.format ?? schema.contentEncoding;
  return format ? `${type} (${format})` : type;
}

const unique = (values) => [...new Set(values)];

/** Bounds, lengths, pattern and default, as short phrases. */
export function limits(document, node) {
  const whole = flat(document, node);
  const schema = { ...(whole.anyOf ?? whole.oneOf ?? []).map((one) => flat(document, one)).find((one) => one.type !== "null"), ...whole };
  const phrases = [
    ["minimum", (value) => `≥ ${value}`], ["exclusiveMinimum", (value) => `> ${value}`],
    ["maximum", (value) => `≤ ${value}`], ["exclusiveMaximum", (value) => `< ${value}`],
    ["multipleOf", (value) => `a multiple of ${value}`],
    ["minLength", (value) => `at least ${value} characters`], ["maxLength", (value) => `at most ${value} characters`],
    ["minItems", (value) => (value === schema.maxItems ? `exactly ${value} items` : `at least ${value} items`)],
    ["maxItems", (value) => (value === schema.minItems ? "" : `at most ${value} items`)],
    ["pattern", (value) => `matches ${value}`],
    ["default", (value) => `default ${JSON.stringify(value)}`],
  ];
  return phrases.filter(([key]) => schema[key] !== undefined && schema[key] !== null).map(([key, say]) => say(schema[key])).filter(Boolean);
}

/** The members of an object schema, nested ones after their parent: `{name, depth, required, schema}`. */
export function members(document, node, depth = 0, above = [referenceName(node)]) {
  const schema = flat(document, node);
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    const inner = innerObject(document, member);
    const key = referenceName(inner) || inner;
    const open = inner && depth < DEEPEST && !above.includes(key);
    return [
      { name, depth, required: required.has(name), schema: member },
      ...(open ? members(document, inner, depth + 1, [...above, key]) : []),
    ];
  });
}

// What an object, a list of objects or an optional object is made of; null for plain values.
function innerObject(document, node, depth = 0) {
  const schema = flat(document, node);
  if (schema.properties) return node;
  if (depth > 3) return null;
  const candidates = [schema.items, schema.additionalProperties, ...(schema.anyOf ?? schema.oneOf ?? [])];
  for (const candidate of candidates) {
    const found = candidate && typeof candidate === "object" ? innerObject(document, candidate, depth + 1) : null;
    if (found) return found;
  }
  return null;
}

/** The examples given for a media type, as `[title, value]`; made up from the schema where there are none. */
export function examples(document, media) {
  const named = Object.entries(media.examples ?? {}).map(([name, node]) => {
    const example = resolve(document, node);
    return [example.summary ?? name, example.value ?? example.externalValue];
  });
  if (named.length) return named;
  if (media.example !== undefined) return [["Example", media.example]];
  return media.schema ? [["Example", exampleOf(document, media.schema)]] : [];
}

/** A value of the shape of a schema: its own example, default or first choice, else one built from its members. */
export function exampleOf(document, node, above = []) {
  const schema = flat(document, node);
  const name = referenceName(node);
  if (above.length > DEEPEST || (name && above.includes(name))) return null;
  const path = [...above, name];
  const given = [schema.example, schema.examples?.[0], schema.const, schema.default, schema.enum?.[0]];
  const found = given.find((value) => value !== undefined && value !== null);
  if (found !== undefined) return found;
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return exampleOf(document, choices.find((one) => flat(document, one).type !== "null") ?? {}, above);
  const type = [schema.type ?? (schema.properties ? "object" : "null")].flat()[0];
  if (type === "array") return arrayExample(document, schema, path);
  if (type === "object") {
    return Object.fromEntries(Object.entries(schema.properties ?? {})
      .filter(([name, member]) => (schema.required ?? []).includes(name) || flat(document, member).default !== null)
      .map(([name, member]) => [name, exampleOf(document, member, path)]));
  }
  return { string: textExample(schema), integer: schema.minimum ?? 0, number: schema.minimum ?? 0, boolean: false }[type] ?? null;
}

function arrayExample(document, schema, above) {
  if (schema.prefixItems) return schema.prefixItems.map((item) => exampleOf(document, item, above));
  const item = exampleOf(document, schema.items ?? {}, above);
  return item === null ? [] : Array.from({ length: Math.min(schema.minItems ?? 1, 8) || 1 }, () => item);
}

function textExample({ format, contentEncoding }) {
  if (contentEncoding === "base64" || format === "byte") return "…base64…";
  return { "date-time": "2030-01-31T12:00:00Z", date: "2030-01-31", uri: "https://example.org/", uuid: "00000000-0000-4000-8000-000000000000" }[format] ?? "text";
}
